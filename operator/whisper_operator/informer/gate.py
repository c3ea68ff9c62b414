"""What stands between kopf and the API server, so that nothing that goes wrong with one watch ends them all.

kopf gives up, and the process with it, when a single list or watch is refused. Here such a request waits instead until it is
answered: until the kind is installed, the right granted, the API server back. What a watch begins with is not listed for kopf
either: relist.py lists everything, and once is enough.
"""

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from whisper_operator.informer.access import FAILING, FORBIDDEN, MISSING, Obstacle, Place
from whisper_operator.informer.liveness import Watches
from whisper_operator.kube.answers import message_of, retry_after
from whisper_operator.kube.client import REQUEST_SECONDS
from whisper_operator.kube.kinds import EVENT
from whisper_operator.kube.objects import Raw

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
NOTHING = "metadata.name=-"
"""Field selector that no object has."""
GONE = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410}
"""What makes kopf list, and begin a watch anew."""


class Gate:
    """A middleware of kopf's session."""

    def __init__(
        self, watches: Watches, places: Iterable[Place], concerns: Callable[[Raw], bool], base: str = ""
    ) -> None:
        """`concerns`: whether an Event is worth to be shown; `base`: the path of the API server's own URL, if it has one."""
        self._watches = watches
        self._places = {base + kind.path(namespace): (kind, namespace) for kind, namespace in places}
        self._concerns = concerns
        self._failures: dict[str, int] = {}
        """By path, tries in a row that came to nothing."""
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Nothing is waited for any more. kopf closes its session when it ends, and only then what still asks."""
        self._ending.set()

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        place, path = self._places.get(request.url.path), request.url.path
        is_watch = "watch" in request.url.query
        if place is None:  # such as the cluster's CRDs, which kopf lists and watches by itself
            response = await self._answer(request, handler, None, path)
            if is_watch and response.status == 410:
                _tell_gone(response)
            elif is_watch and response.status < 400:
                response.content = _Stream(response.content, path)  # type: ignore[assignment]  # all of it that kopf reads
            return response
        if not is_watch:
            request.url = request.url.update_query(fieldSelector=NOTHING)
        self._watches.asks(place)
        try:
            response = await self._answer(request, handler, place, path)
        except BaseException:
            self._watches.ends(place)
            raise
        if response.status == 410:  # kopf expects to be told so in the stream.
            _tell_gone(response)
            self._watches.ends(place)
        elif is_watch:
            self._watches.goes_on(place, int(request.url.query.get("resourceVersion", "0")))
            concerns = self._concerns if place[0] is EVENT else None
            stream = _Shown(response.content, self._watches, place, concerns)
            response.content = stream  # type: ignore[assignment]  # as above
        else:
            self._watches.lists(place)
            self._watches.ends(place)
        return response

    async def _answer(
        self, request: ClientRequest, handler: ClientHandlerType, place: Place | None, path: str
    ) -> ClientResponse:
        """The API server's answer, once it is one that kopf can go on with."""
        while True:
            wait, answered = 0.0, False
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    response = await handler(request)
                    if response.status >= 400 or "watch" not in request.url.query:
                        await response.read()
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                obstacle = Obstacle(FAILING, f"{type(error).__name__}: {error}")
            else:
                is_gone = response.status == 410 and "watch" in request.url.query
                if response.status < 400 or is_gone or (place is None and response.status in (403, 404)):
                    self._failures.pop(path, None)
                    return response
                body, answered = await response.read(), True
                wait = retry_after(response.headers)
                reason = FORBIDDEN if response.status == 403 else FAILING
                if response.status == 404:
                    reason = MISSING
                obstacle = Obstacle(reason, message_of(response.status, body))
                response.release()
            if place is not None:
                self._watches.held_up(place, obstacle, answered=answered)
            failures = self._failures.get(path, 0)
            self._failures[path] = failures + 1
            pause = min(FIRST_PAUSE * 2.0 ** min(failures, 10), LONGEST_PAUSE) * random.uniform(0.5, 1.0)
            logger.debug("Watching %s has to wait: %s", path, obstacle.message)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), max(pause, wait))
                raise asyncio.CancelledError


class _Gone:
    """The content of a watch that can't go on from where it was."""

    def exception(self) -> None:
        """There is none to come."""

    def set_exception(self, *_: BaseException) -> None:
        """Nobody reads on."""

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        yield json.dumps({"type": "ERROR", "object": GONE}).encode() + b"\n"


def _tell_gone(response: ClientResponse) -> None:
    """Have kopf take it for a watch that can't go on."""
    response.status, response.content = 200, _Gone()  # type: ignore[assignment]  # all of it that kopf reads


class _Stream:
    """A watch's content. An error that would end kopf becomes the one that makes it begin anew."""

    def __init__(self, content: aiohttp.StreamReader, what: str) -> None:
        self._content = content
        self._what = what

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Whole lines, many at a time."""
        rest = b""
        async for data in self._content.iter_any():
            lines, _, rest = (rest + data).rpartition(b"\n")
            if lines:
                yield b"\n".join([*self._passed_on(lines.split(b"\n")), b""])

    def _passed_on(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        for line in lines:
            if line.startswith(b'{"type":"ERROR"'):
                status = json.loads(line)["object"]
                if status.get("code") != 410:
                    logger.info("A watch of %s ended: %s", self._what, status.get("message"))
                yield json.dumps({"type": "ERROR", "object": GONE}).encode()
            else:
                yield line


class _Shown(_Stream):
    """The content of a watch of a kind that is listed as well. As kopf makes a task of each object, the Events of the whole
    cluster that concern nobody here are passed over."""

    def __init__(
        self,
        content: aiohttp.StreamReader,
        watches: Watches,
        place: Place,
        concerns: Callable[[Raw], bool] | None,
    ) -> None:
        super().__init__(content, place[0].qualified)
        self._watches = watches
        self._place = place
        self._concerns = concerns

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        whole = False
        try:
            async for lines in super().iter_chunked(size):
                yield lines
            whole = True
        finally:
            if not whole:
                self._watches.interrupted(self._place)
            self._watches.ends(self._place)

    def _is_foreign(self, line: bytes) -> str | None:
        """The resourceVersion of an object that nobody here is concerned by."""
        event = json.loads(line)
        is_object = event["type"] in ("ADDED", "MODIFIED", "DELETED")
        if not is_object or self._concerns is None or self._concerns(event["object"]):
            return None
        return str(event["object"]["metadata"]["resourceVersion"])

    def _passed_on(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        passed_over = None
        for line in super()._passed_on(lines):
            foreign = self._is_foreign(line) if self._concerns is not None else None
            if foreign is None:
                yield line
            else:
                self._watches.goes_on(self._place, int(foreign))
            passed_over = foreign
        if passed_over is not None:  # so that a broken watch goes on from there
            bookmark = {"metadata": {"resourceVersion": passed_over}}
            yield json.dumps({"type": "BOOKMARK", "object": bookmark}).encode()
