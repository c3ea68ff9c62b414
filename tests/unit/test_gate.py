"""What stands between kopf and the API server: nothing that goes wrong with one watch reaches kopf, and nothing foreign."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from whisper_operator.informer import gate as gates
from whisper_operator.informer.access import FORBIDDEN, MISSING, Access, Obstacle, Place
from whisper_operator.informer.gate import Gate
from whisper_operator.informer.liveness import Watches
from whisper_operator.kube.kinds import EVENT, SERVICE

SERVICES: Place = (SERVICE, None)
EVENTS: Place = (EVENT, None)
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
"""What kopf looks at by itself."""
EMPTY = {"kind": "List", "metadata": {"resourceVersion": "7"}, "items": []}

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Stage:
    """An API server that answers as told, and kopf's session with it."""

    def __init__(self, base: str = "") -> None:
        self.base = base
        self.access = Access()
        self.begun: list[Place] = []
        self.watches = Watches(self.access, self.begun.append)
        self.gate = Gate(
            self.watches, self.access.places, lambda event: event["involvedObject"]["name"] == "ours", base
        )
        self.answers: list[Answer] = []
        self.asked: list[web.Request] = []

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        return await self.answers.pop(0)(request)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.serve)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}{self.base}"
        try:
            async with aiohttp.ClientSession(middlewares=(self.gate,)) as self.session:
                yield
        finally:
            await runner.cleanup()

    async def lists(self, place: Place = SERVICES) -> Any:
        async with self.session.get(f"{self.url}{place[0].path()}?limit=50") as response:
            return response.status, await response.json()

    async def watch(self, place: Place = SERVICES, since: int = 7) -> list[dict[str, Any]]:
        return await self.watch_path(place[0].path(), since)

    async def watch_path(self, path: str, since: int = 7) -> list[dict[str, Any]]:
        query = f"watch=true&resourceVersion={since}"
        async with self.session.get(f"{self.url}{path}?{query}") as response:
            assert response.status == 200
            data = b"".join([chunk async for chunk in response.content.iter_chunked(1 << 20)])
        return [json.loads(line) for line in data.splitlines()]


def answer(status: int, body: Any, **headers: str) -> Answer:
    async def give(_: web.Request) -> web.StreamResponse:
        return web.json_response(
            body, status=status, headers={name.replace("_", "-"): headers[name] for name in headers}
        )

    return give


def refusal(status: int, message: str, **headers: str) -> Answer:
    return answer(status, {"kind": "Status", "message": message}, **headers)


def stream(*lines: dict[str, Any], cut: bool = False) -> Answer:
    async def give(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for line in lines:
            await response.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        if cut:
            assert request.transport is not None
            request.transport.close()
        return response

    return give


def event(kind: str, version: int, about: str = "ours") -> dict[str, Any]:
    metadata = {"namespace": "n", "resourceVersion": str(version)}
    return {"type": kind, "object": {"metadata": metadata, "involvedObject": {"name": about}}}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "FIRST_PAUSE", 0.01)


async def test_a_request_waits_until_it_is_answered_whatever_is_in_the_way() -> None:
    stage = Stage()
    obstacles: list[Obstacle | None] = []

    def noting(given: Answer) -> Answer:
        async def give(request: web.Request) -> web.StreamResponse:
            obstacles.append(stage.access.obstacle(SERVICE, "n"))
            return await given(request)

        return give

    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    given = [refusal(403, "no right"), cut, refusal(400, "nonsense"), answer(404, "404 page not found")]
    stage.answers = [noting(each) for each in (*given, refusal(500, "etcd"), answer(200, EMPTY))]
    async with stage.open():
        assert await stage.lists() == (200, EMPTY)
    reasons = [each and each.reason for each in obstacles]
    assert reasons == [
        None,
        FORBIDDEN,
        FORBIDDEN,
        FORBIDDEN,
        MISSING,
        MISSING,
    ]  # what passes says nothing new
    assert obstacles[1] == Obstacle(FORBIDDEN, "no right")
    assert stage.access.obstacle(SERVICE, "n") is None
    assert stage.begun[-1] == SERVICES


async def test_kopf_lists_nothing() -> None:
    """All that is there is listed once, by relist.py."""
    stage = Stage()
    stage.answers = [answer(200, EMPTY)]
    async with stage.open():
        await stage.lists()
    (asked,) = stage.asked
    assert dict(asked.query) == {"limit": "50", "fieldSelector": "metadata.name=-"}


async def test_an_api_server_below_a_path_is_known_as_well() -> None:
    """As behind a proxy of several clusters."""
    stage = Stage("/k8s/clusters/c-1")
    stage.answers = [refusal(403, "no right"), answer(200, EMPTY)]
    async with stage.open():
        assert await stage.lists() == (200, EMPTY)
    assert [each.path for each in stage.asked] == [f"/k8s/clusters/c-1{SERVICE.path()}"] * 2
    assert stage.begun == [SERVICES]


async def test_retry_after_is_obeyed() -> None:
    stage = Stage()
    stage.answers = [refusal(429, "too many", Retry_After="1"), answer(200, EMPTY)]
    async with stage.open():
        start = time.monotonic()
        await stage.lists()
    assert time.monotonic() - start >= 1


@pytest.mark.parametrize("path", [SERVICE.path(), CRDS])
async def test_an_error_in_a_watch_is_one_that_makes_it_begin_anew(path: str) -> None:
    stage = Stage()
    error = {"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "etcd is gone"}}
    stage.answers = [stream(event("ADDED", 8), error)]
    async with stage.open():
        first, last = await stage.watch_path(path)
    assert first["type"] == "ADDED"
    assert (last["type"], last["object"]["code"]) == ("ERROR", 410)


@pytest.mark.parametrize("path", [SERVICE.path(), CRDS])
async def test_a_watch_that_cannot_go_on_is_told_so_as_kopf_expects(path: str) -> None:
    stage = Stage()
    stage.answers = [refusal(410, "too old resource version")]
    async with stage.open():
        (only,) = await stage.watch_path(path)
    assert (only["type"], only["object"]["code"]) == ("ERROR", 410)
    assert stage.watches.shown_until(SERVICES) == -1


async def test_foreign_events_are_passed_over_and_not_asked_for_again() -> None:
    stage = Stage()
    lines = [event("ADDED", 8), *(event("ADDED", version, "theirs") for version in range(9, 30))]
    stage.answers = [stream(*lines, {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "30"}}})]
    async with stage.open():
        seen = await stage.watch(EVENTS)
    assert [each["type"] for each in seen if each["type"] != "BOOKMARK"] == ["ADDED"]
    versions = [int(each["object"]["metadata"]["resourceVersion"]) for each in seen]
    assert versions == sorted(versions)
    assert versions[-1] == 30
    assert stage.watches.shown_until(EVENTS) == 29


async def test_a_watch_that_breaks_has_its_kind_listed_when_it_goes_on() -> None:
    stage = Stage()
    stage.answers = [stream(event("ADDED", 8)), stream(event("ADDED", 9), cut=True), stream()]
    async with stage.open():
        await stage.watch()
        assert stage.begun == []
        with pytest.raises(aiohttp.ClientError):
            await stage.watch()
        await stage.watch(since=9)
    assert stage.begun == [SERVICES]


async def test_nothing_waits_any_more_at_the_end() -> None:
    stage = Stage()
    stage.answers = [refusal(403, "no", Retry_After="100")]
    async with stage.open():
        waiting = asyncio.create_task(stage.lists())
        while not stage.asked:
            await asyncio.sleep(0.01)
        stage.gate.end()
        with pytest.raises(asyncio.CancelledError):
            await waiting
