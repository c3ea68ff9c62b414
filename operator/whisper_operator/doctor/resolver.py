"""Asking DNS, in bounded time: the only place of the operator that looks names up.

A lookup that hangs can't be stopped, so that each has a thread that nobody waits for at the end.
"""

import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping
from queue import Empty, SimpleQueue

from whisper_operator.doctor.facts import Answer

AT_ONCE = 16
SECONDS = 15.0
"""For all names together."""
NO_SUCH = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
UNANSWERED = Answer(failure="DNS gave no answer in time")

Resolve = Callable[[Collection[str]], Mapping[str, Answer]]


def resolve(names: Collection[str], seconds: float = SECONDS) -> dict[str, Answer]:
    """What the resolver of this machine says of each, the hosts file included."""
    waiting, found = SimpleQueue[str](), SimpleQueue[tuple[str, Answer]]()
    for name in dict.fromkeys(names):
        waiting.put(name)

    def work() -> None:
        while True:
            try:
                name = waiting.get_nowait()
            except Empty:
                return
            found.put((name, look_up(name)))

    for _ in range(min(AT_ONCE, len(names))):
        threading.Thread(target=work, daemon=True).start()
    answers: dict[str, Answer] = {}
    deadline = time.monotonic() + seconds
    while len(answers) < len(set(names)):
        try:
            name, answer = found.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            break
        answers[name] = answer
    return {name: answers.get(name, UNANSWERED) for name in names}


def look_up(name: str) -> Answer:
    try:
        found = socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return Answer() if error.errno in NO_SUCH else Answer(failure=str(error.strerror))
    except (OSError, UnicodeError) as error:  # such as a name that can't be one
        return Answer(failure=f"{name!r} can't be looked up: {error}")
    return Answer(tuple(dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found)))
