"""A proxy before the API server that goes wrong on demand: what a client must survive, and can't be had from a healthy server.

It speaks plain HTTP on 127.0.0.1 to one client, whose own token it passes on. It runs in a thread of its own.
"""

import asyncio
import base64
import json
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

from devcluster.cluster import Cluster
from devcluster.ports import free_ports

HOP = {"host", "connection", "content-length", "transfer-encoding", "keep-alive"}
"""Headers that concern one connection."""

REFUSALS = {
    "429": (429, "TooManyRequests", "the server has received too many requests"),
    "500": (500, "InternalError", "etcdserver: leader changed"),
    "503": (503, "ServiceUnavailable", "apiserver is shutting down"),
    "conflict": (
        409,
        "Conflict",
        "the object has been modified; please apply your changes to the latest version",
    ),
    "nonsense": (400, "BadRequest", "the request can't be understood"),
}
"""Answers that are given without asking the API server."""

FAULTS = ("429", "500", "503", "conflict", "cut", "lost", "timeout", "slow")
"""What may pass. conflict: of a request that writes, as reads have none; cut: the connection breaks before the API server is
asked; lost: after it was, so that the client does not know what came of its request; timeout: the same, answered 504; slow: a
second late."""

SLOW_SECONDS = 1.0

LONGEST_LINE = 1 << 24
"""Bytes; a watch is passed on line by line, as no API server ends one in the middle of an object. etcd takes 1.5 MiB at most."""


class FaultProxy:
    """Use as a context manager; `url` is then the address for the client's kubeconfig."""

    def __init__(self, cluster: Cluster, known_as: str = "") -> None:
        """`known_as`: the User-Agent that the API server is told, by which its audit log tells clients of one user apart."""
        self._known_as = known_as
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        authority = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
        self._tls = ssl.create_default_context(cadata=authority)
        self._server = cluster.server
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy", daemon=True)
        self._coming: deque[str] = deque()
        self._kept = ("", "")
        """In which paths every write fails, and how."""
        self._agent = ""
        self._lasting: dict[str, str] = {}
        self._cut_off = ""
        self._watches: set[asyncio.Future[bytes]] = set()
        self._seeing = asyncio.Event()
        self._seeing.set()
        self.done: list[str] = []
        """Faults that were met, with the request that each hit."""

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def fail(self, *faults: str, agent: str = "") -> None:
        """Meet the next requests (watches apart) with these faults, in this order; each of FAULTS or REFUSALS, or "" for none.

        `agent`: only requests of clients whose User-Agent begins so."""
        self._agent = agent
        self._loop.call_soon_threadsafe(self._coming.extend, faults)

    def keep_failing(self, path: str, fault: str) -> None:
        """Answer every request that writes to a path with this in it so, one of REFUSALS, until told to behave."""
        self._kept = (path, fault)

    @contextmanager
    def always(self, fault: str, path: str) -> Iterator[None]:
        """Inside, every request whose path ends so meets this fault, watches apart."""
        self._lasting[path] = fault
        try:
            yield
        finally:
            del self._lasting[path]

    def behave(self) -> None:
        """Forget the faults that have not been met yet, and let everything pass again."""
        self._kept = ("", "")
        self._loop.call_soon_threadsafe(self._coming.clear)
        if self._cut_off:
            self._cut_off = ""
            # What watches missed is told to those that begin where these were.
            self._loop.call_soon_threadsafe(self._end_watches, b"")
            self._loop.call_soon_threadsafe(self._seeing.set)

    def cut_off(self, how: str) -> None:
        """Nothing reaches the API server until told to behave: connections are refused ("refuse"), or get no answer ("hang")."""
        self._cut_off = how
        self._loop.call_soon_threadsafe(self._seeing.clear)
        if how == "refuse":
            self._loop.call_soon_threadsafe(self._end_watches, b"")

    def drop_watches(self) -> None:
        """Break every watch's connection; a new watch may go on from where it was."""
        self._loop.call_soon_threadsafe(self._end_watches, b"")

    def stall_watches(self) -> None:
        """From now on no watch reports anything, though its connection stays."""
        self._loop.call_soon_threadsafe(self._seeing.clear)

    @contextmanager
    def blind(self) -> Iterator[None]:
        """Whatever happens inside is reported by no watch; then every watch ends with 410, so that its client has to list."""
        self._loop.call_soon_threadsafe(self._seeing.clear)
        try:
            yield
        finally:
            gone = _line(410, "Expired", "too old resource version")
            self._loop.call_soon_threadsafe(self._end_watches, gone)
            self._loop.call_soon_threadsafe(self._seeing.set)

    def _end_watches(self, last: bytes) -> None:
        for ending in self._watches:
            if not ending.done():
                ending.set_result(last)

    async def _open(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()

    async def _close(self) -> None:
        self._end_watches(b"")
        await self._runner.cleanup()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._session.close()
        await asyncio.sleep(0.3)  # until connections with TLS are really closed

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if self._cut_off:
            if self._cut_off == "hang":
                await self._seeing.wait()
            return _hang_up(request)
        if request.query.get("watch") in ("true", "1"):
            return await self._watch(request)
        concerned = request.headers.get("User-Agent", "").startswith(self._agent)
        lasting = next((each for path, each in self._lasting.items() if request.path.endswith(path)), "")
        fault = lasting or (self._coming.popleft() if self._coming and concerned else "")
        if fault == "conflict" and request.method == "GET":
            fault = ""
        if self._kept[1] and self._kept[0] in request.path and request.method != "GET":
            fault = self._kept[1]
        if fault:
            self.done.append(f"{fault}: {request.method} {request.path}")
        if fault in REFUSALS:
            code, reason, message = REFUSALS[fault]
            headers = {"Retry-After": "1"} if code == 429 else {}
            return web.Response(
                status=code,
                body=_status(code, reason, message),
                content_type="application/json",
                headers=headers,
            )
        if fault == "cut":
            return _hang_up(request)
        if fault == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        async with self._ask(request, await request.read() or None) as answer:
            body = await answer.read()
            if fault == "lost":
                return _hang_up(request)
            if fault == "timeout":
                body = _status(504, "Timeout", "request did not complete within the allotted timeout")
                return web.Response(status=504, body=body, content_type="application/json")
            return web.Response(status=answer.status, body=body, headers=_passed_on(answer.headers))

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        await self._seeing.wait()
        ending: asyncio.Future[bytes] = self._loop.create_future()
        self._watches.add(ending)
        try:
            async with self._ask(request, None) as answer:
                response = web.StreamResponse(status=answer.status, headers=_passed_on(answer.headers))
                await response.prepare(request)
                while not ending.done():
                    reading = asyncio.ensure_future(answer.content.readline(max_line_length=LONGEST_LINE))
                    await asyncio.wait({reading, ending}, return_when=asyncio.FIRST_COMPLETED)
                    if not reading.done():
                        reading.cancel()
                        break
                    if not (line := reading.result()):
                        return response
                    if self._seeing.is_set():
                        await response.write(line)
                if last := ending.result():
                    await response.write(last)
                    return response
                return _hang_up(request)
        except (aiohttp.ClientError, ConnectionError):
            return _hang_up(request)
        finally:
            self._watches.discard(ending)

    def _ask(self, request: web.Request, body: bytes | None) -> "aiohttp.client._RequestContextManager":
        target = URL(self._server + request.raw_path, encoded=True)
        headers = _passed_on(request.headers)
        if self._known_as:
            headers = {name: value for name, value in headers.items() if name.lower() != "user-agent"}
            headers["User-Agent"] = self._known_as
        return self._session.request(request.method, target, headers=headers, data=body)


def _passed_on(headers: "aiohttp.typedefs.LooseHeaders") -> dict[str, str]:
    return {name: value for name, value in dict(headers).items() if str(name).lower() not in HOP}


def _hang_up(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)  # goes nowhere


def _status(code: int, reason: str, message: str) -> bytes:
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return json.dumps({**status, "message": message, "reason": reason, "code": code}).encode()


def _line(code: int, reason: str, message: str) -> bytes:
    return (
        json.dumps({"type": "ERROR", "object": json.loads(_status(code, reason, message))}).encode() + b"\n"
    )
