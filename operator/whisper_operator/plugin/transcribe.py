"""The command `transcribe`."""

import queue
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

from whisper_operator.observed.foreign_words import printable
from whisper_operator.plugin import endpoint, keys, sources
from whisper_operator.plugin.attempts import until_done
from whisper_operator.plugin.endpoint import Endpoint
from whisper_operator.plugin.failure import NOT_BEGUN, NOT_DONE, Failure
from whisper_operator.plugin.form import Form
from whisper_operator.plugin.formats import rendered
from whisper_operator.plugin.forward import Forwards
from whisper_operator.plugin.keys import Key
from whisper_operator.plugin.kubectl import Kubectl
from whisper_operator.plugin.progress import Progress
from whisper_operator.plugin.request import Told, transcribe

AT_ONCE = 4
"""Files in flight: the server decodes them together, and others want to be served as well."""
TICK = 0.1

Way = Callable[[], AbstractContextManager[str]]
"""A new one to the server: its base URL, for as long as it is open."""
Outcome = dict[str, Any] | BaseException


def run(options: Namespace, kubectl: Kubectl) -> int:
    """Its exit status. Raises Failure before anything is sent."""
    if options.words and options.format != "verbose_json":
        raise Failure(
            "--words, the times of single words, needs --format verbose_json: no other has them", NOT_BEGUN
        )
    files = sources.find(options.files)
    places = sources.destinations(files, options.format, options.output)
    found = endpoint.find(kubectl, options.endpoint, options.namespace)
    found.check_that_it_serves()
    key = keys.find(kubectl, found, options.key_file, options.client)
    progress = Progress([each.name for each in files], sys.stderr)
    path = f"/v1/audio/{'translations' if options.translate else 'transcriptions'}"
    failed = False
    with ExitStack() as stack:
        way = _way(options, kubectl, found, key, stack)

        def once(index: int) -> dict[str, Any]:
            def tell(told: Told) -> None:
                progress.tell(index, told)

            with way() as url:
                tell(Told())
                return transcribe(url, path, Form(_fields(options), files[index]), key, tell)

        stack.callback(progress.clear)
        for index, outcome in _in_order(len(files), once, progress):
            name = printable(files[index].name)
            try:
                if isinstance(outcome, BaseException):
                    raise outcome
                _deliver(rendered(outcome, options.format), places, index, name, progress)
            except Failure as failure:
                failed = True
                words = str(failure).removeprefix(f"{files[index].filename}: ")  # as the server begins
                progress.say(f"kubectl-whisper: {name}: {words}")
    return NOT_DONE if failed else 0


def _way(options: Namespace, kubectl: Kubectl, found: Endpoint, key: Key | None, stack: ExitStack) -> Way:
    if not options.url:
        forwards = stack.enter_context(Forwards(kubectl, found))
        return forwards.open
    url = found.url
    if url is None:
        raise Failure(
            f"WhisperEndpoint {found.title} has no public URL: leave --url out, and it is reached through kubectl",
            NOT_BEGUN,
        )
    if key is not None and not url.startswith("https://"):
        raise Failure(
            f"{url} is not encrypted, and an API key must not be sent there: leave --url out, and it is reached through kubectl",
            NOT_BEGUN,
        )
    return lambda: nullcontext(url)


def _fields(options: Namespace) -> list[tuple[str, str]]:
    fields = [("response_format", "verbose_json"), ("stream", "true")]
    if options.language:
        fields.append(("language", options.language))
    if options.prompt:
        fields.append(("prompt", options.prompt))
    if options.words:
        fields += [("timestamp_granularities[]", each) for each in ("segment", "word")]
    return fields


def _in_order(
    count: int, once: Callable[[int], dict[str, Any]], progress: Progress
) -> Iterator[tuple[int, Outcome]]:
    """Index and outcome of each file, in their order, as soon as they are there.

    By threads that nobody waits for: when this program is interrupted, it ends at once.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[int, Outcome | str]] = queue.SimpleQueue()
    for index in range(count):
        waiting.put(index)

    def work() -> None:
        with suppress(queue.Empty):
            while True:
                index = waiting.get_nowait()
                try:
                    ended.put((index, until_done(partial(once, index), partial(_put, ended, index))))
                except BaseException as error:
                    ended.put((index, error))

    for _ in range(min(AT_ONCE, count)):
        threading.Thread(target=work, daemon=True).start()
    outcomes: dict[int, Outcome] = {}
    for index in range(count):
        while index not in outcomes:
            progress.draw()
            try:
                which, what = ended.get(timeout=TICK)
            except queue.Empty:
                continue
            if isinstance(what, str):
                progress.say(f"{printable(progress.names[which])}: {what}")
            else:
                outcomes[which] = what
                progress.done(which)
        yield index, outcomes.pop(index)


def _put(ended: "queue.SimpleQueue[tuple[int, Outcome | str]]", index: int, words: str) -> None:
    ended.put((index, words))


def _deliver(text: str, places: list[Path | None], index: int, name: str, progress: Progress) -> None:
    place = places[index]
    progress.clear()
    if place is not None:
        sources.write(place, text)
        return
    if len(places) > 1:
        text = f"{'' if index == 0 else chr(10)}==> {name} <==\n{text}"
    sys.stdout.write(text)
    sys.stdout.flush()
