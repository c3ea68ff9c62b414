"""The client, against a server that answers as an API server does."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import client
from whisper_operator.kube import slots
from whisper_operator.kube.answers import LONGEST_WAIT
from whisper_operator.kube.client import Api
from whisper_operator.kube.errors import (
    Conflict,
    Forbidden,
    NoSuchKind,
    NotLeading,
    OutOfTime,
    Refused,
    Unavailable,
)
from whisper_operator.kube.kinds import POD, SERVICE, Kind
from whisper_operator.kube.slots import IN_FLIGHT, SLOW


@asynccontextmanager
async def connected(serve: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[Api]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = client.Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
    try:
        async with client.ApiClient(configuration) as connection:
            yield Api(connection)
    finally:
        await runner.cleanup()


async def failure(status: int, text: str, **headers: str) -> Exception:
    """What becomes of an answer."""

    async def serve(_: web.Request) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, text=text, headers=named)

    async with connected(serve) as api:
        with pytest.raises(Exception) as raised:  # noqa: PT011 - it is told apart below
            await api.delete(SERVICE, "n", "w", "u")
        return raised.value


async def test_a_namespace_whose_requests_hang_keeps_none_of_the_others_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slots, "SLOW_SECONDS", 0.05)
    hanging, goes_on, empty = list[str](), asyncio.Event(), '{"metadata":{"resourceVersion":"7"},"items":[]}'

    async def serve(request: web.Request) -> web.Response:
        if "/namespaces/bad/" in request.path:
            hanging.append(request.path)
            await goes_on.wait()
        return web.Response(text=empty)

    def ignore(_: dict[str, Any]) -> None:
        raise AssertionError

    async with connected(serve) as api:
        bad = [asyncio.create_task(api.get(SERVICE, "bad", str(each))) for each in range(3 * IN_FLIGHT)]
        while len(hanging) < IN_FLIGHT:
            await asyncio.sleep(0)
        assert await api.get(SERVICE, "good", "w") is not None
        assert await api.list_all(SERVICE, None, None, None, ignore) == 7
        assert len(hanging) == IN_FLIGHT  # it has its share, and no more
        goes_on.set()
        await asyncio.gather(*bad)
    assert len(set(hanging)) == 3 * IN_FLIGHT
    assert list(api._slots._of_namespaces) == []


async def test_a_kind_whose_lists_hang_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of however many namespaces."""
    monkeypatch.setattr(slots, "SLOW_SECONDS", 0.05)
    hanging, goes_on = list[str](), asyncio.Event()

    async def serve(request: web.Request) -> web.Response:
        if request.path.endswith("/pods"):
            hanging.append(request.path)
            await goes_on.wait()
        return web.Response(text='{"metadata":{"resourceVersion":"7"},"items":[]}')

    def lists(api: Api, kind: Kind, namespace: str) -> Awaitable[int | None]:
        return api.list_all(kind, namespace, None, None, lambda _: None)

    async with connected(serve) as api:
        bad = [asyncio.ensure_future(lists(api, POD, f"n{each}")) for each in range(2 * IN_FLIGHT)]
        while len(hanging) < IN_FLIGHT:
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            assert await lists(api, SERVICE, "n0") == 7
        goes_on.set()
        await asyncio.gather(*bad)


async def test_an_api_server_that_is_slow_is_not_asked_ever_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "SLOW_SECONDS", 0.01)
    under_way, goes_on = 0, asyncio.Event()

    async def serve(_: web.Request) -> web.Response:
        nonlocal under_way
        under_way += 1
        await goes_on.wait()
        return web.Response(text="{}")

    async with connected(serve) as api:
        asked = [asyncio.create_task(api.get(SERVICE, f"n{each % 16}", "w")) for each in range(9 * IN_FLIGHT)]
        async with asyncio.timeout(10):
            while under_way < IN_FLIGHT + SLOW:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)
        assert under_way == IN_FLIGHT + SLOW
        goes_on.set()
        await asyncio.gather(*asked)
        assert (api._slots._slow, api._slots._in_flight._value) == (0, IN_FLIGHT)


async def test_so_many_requests_are_under_way_at_a_time_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "SLOW_SECONDS", 60.0)  # whatever the machine does meanwhile
    under_way, most = 0, 0

    async def serve(_: web.Request) -> web.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        return web.Response(text="{}")

    async with connected(serve) as api:
        await asyncio.gather(*(api.get(SERVICE, f"n{each % 5}", "w") for each in range(5 * IN_FLIGHT)))
    assert most == IN_FLIGHT


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (403, '{"kind":"Status","message":"no right"}', Forbidden),
        (
            403,
            '{"kind":"Status","message":"it goes","details":{"causes":["NamespaceTerminating"]}}',
            Unavailable,
        ),
        (409, '{"kind":"Status","message":"changed"}', Conflict),
        (422, '{"kind":"Status","message":"invalid"}', Refused),
        (500, '{"kind":"Status","message":"etcd"}', Unavailable),
        (500, '{"kind":"Status","message":"failed calling webhook x"}', Refused),
        (503, "", Unavailable),
        (200, "[]", Unavailable),
    ],
)
async def test_answers_that_pass_are_told_from_those_that_do_not(status: int, text: str, kind: type) -> None:
    assert type(await failure(status, text)) is kind


@pytest.mark.parametrize(
    ("said", "after"),
    [
        ({}, 0.0),
        ({"Retry_After": "7"}, 7.0),
        ({"Retry_After": "1e9"}, LONGEST_WAIT),
        ({"Retry_After": "x"}, 0.0),
    ],
)
async def test_when_the_api_server_wants_to_be_asked_again_is_kept(
    said: dict[str, str], after: float
) -> None:
    found = await failure(429, "too many requests", **said)
    assert isinstance(found, Unavailable)
    assert found.after == after


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """One for a host of that name, signed by itself, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    new = f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN={name} -addext subjectAltName=DNS:{name}"
    subprocess.run([*new.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl, for a certificate")
async def test_an_api_server_goes_by_the_name_that_the_kubeconfig_gives_it(tmp_path: Path) -> None:
    """Whatever the URL says, as by way of a tunnel; for kopf's session, too."""
    cert, key = certificate(tmp_path, "api.example")

    async def serve(_: web.BaseRequest) -> web.Response:
        return web.Response(text="{}")

    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(cert, key)
    runner = web.ServerRunner(web.Server(serve))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    configuration = client.Configuration(host=url, ssl_ca_cert=str(cert), tls_server_name="api.example")
    configuration.client_session_kwargs = {"trust_env": False}
    try:
        async with client.ApiClient(configuration) as connection:
            api = Api(connection)
            assert await api.get(SERVICE, "n", "w") == {}
            async with api.session() as session, session.get(url) as answer:
                assert answer.status == 200
    finally:
        await runner.cleanup()


def test_a_kind_that_is_not_there_is_a_refusal() -> None:
    assert issubclass(NoSuchKind, Refused)
    assert issubclass(Forbidden, Refused)


async def test_a_write_is_asked_about_once_its_turn_has_come_and_a_read_is_not() -> None:
    reached = list[str]()

    async def serve(request: web.Request) -> web.Response:
        reached.append(request.method)
        return web.Response(text='{"kind":"Service"}')

    def refuse(namespace: str) -> float:
        raise NotLeading(f"not in {namespace}")

    async with connected(serve) as api:
        api.may_write = refuse
        assert await api.get(SERVICE, "n", "w") is not None
        with pytest.raises(NotLeading, match="not in n"):
            await api.delete(SERVICE, "n", "w", "u")
        assert reached == ["GET"]
        api.may_write = lambda namespace: 9.0
        await api.delete(SERVICE, "n", "w", "u")
    assert reached == ["GET", "DELETE"]


async def test_it_is_known_whether_a_write_may_still_be_under_way() -> None:
    goes_on, asked = asyncio.Event(), asyncio.Event()

    async def serve(_: web.Request) -> web.Response:
        asked.set()
        await goes_on.wait()
        return web.Response(text="{}")

    async with connected(serve) as api:
        reading = asyncio.create_task(api.get(SERVICE, "n", "w"))
        await asked.wait()
        assert await api.written(0)
        asked.clear()
        writing = asyncio.create_task(api.delete(SERVICE, "n", "w", "u"))
        await asked.wait()
        assert not await api.written(0.01)
        goes_on.set()
        await asyncio.gather(reading, writing)
        assert await api.written(0)
        goes_on.clear()
        asked.clear()
        api.may_write = lambda namespace: 1.3
        writing = asyncio.create_task(api.delete(SERVICE, "n", "w", "u"))
        await asked.wait()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert not await api.written(0), "it was sent, and nobody knows what comes of it"
        await asyncio.sleep(0.4)
        assert await api.written(0), "the API server has given it up"
        goes_on.set()


async def test_a_write_that_was_never_sent_is_not_under_way() -> None:
    configuration = client.Configuration(host="http://127.0.0.1:1")
    async with client.ApiClient(configuration) as connection:
        api = Api(connection)
        with pytest.raises(Unavailable):
            await api.delete(SERVICE, "n", "w", "u")
        assert await api.written(0)


LEASED = {"metadata": {"namespace": "n", "name": "w", "uid": "u"}}
IN_ONE_STATE = {"metadata": {**LEASED["metadata"], "resourceVersion": "7"}}


@pytest.mark.parametrize(
    ("body", "left", "given"), [(LEASED, 9.0, "8.0s"), (LEASED, 99.0, "30.0s"), (IN_ONE_STATE, 9.0, "30.0s")]
)
async def test_the_api_server_is_told_by_when_a_write_has_to_be_over(
    body: dict[str, Any], left: float, given: str
) -> None:
    """Which is before another leader begins, but for what it would be refused for once that has written."""
    seen = list[str]()

    async def serve(request: web.Request) -> web.Response:
        seen.append(request.query.get("timeout", "for ever"))
        return web.Response(text="{}")

    async with connected(serve) as api:
        api.may_write = lambda namespace: left
        await api.apply(SERVICE, body, force=True)
        await api.get(SERVICE, "n", "w")
    assert seen == [given, "for ever"]


@pytest.mark.parametrize("left", [NotLeading("its time was over"), 7.9])
async def test_a_write_whose_time_is_over_once_it_is_connected_is_not_sent(left: Exception | float) -> None:
    """As by a process that was stopped meanwhile."""
    reached, asked = list[str](), list[str]()

    async def serve(request: web.Request) -> web.Response:
        reached.append(request.method)
        return web.Response(text='{"kind":"Service"}')

    def may_write(namespace: str) -> float:
        asked.append(namespace)
        if len(asked) == 1:
            return 9.0
        if isinstance(left, Exception):
            raise left
        return left

    async with connected(serve) as api:
        api.may_write = may_write
        with pytest.raises(NotLeading):
            await api.delete(SERVICE, "n", "w", "u")
        assert await api.written(0)
    assert (reached, asked) == ([], ["n", "n"])


async def test_a_write_that_is_sent_again_over_another_connection_is_asked_about_once_more() -> None:
    """aiohttp does so by itself, where a connection that it had kept turns out to be broken."""
    reached, refused = list[str](), False

    async def serve(request: web.Request) -> web.Response:
        nonlocal refused
        reached.append(request.method)
        if len(reached) == 2:
            assert request.transport is not None
            request.transport.abort()
            refused = True
        return web.Response(text='{"kind":"Service"}')

    def may_write(namespace: str) -> float:
        if refused:
            raise NotLeading("its time was over")
        return 9.0

    async with connected(serve) as api:
        await api.get(SERVICE, "n", "w")
        api.may_write = may_write
        with pytest.raises(NotLeading):
            await api.delete(SERVICE, "n", "w", "u")
        assert not await api.written(0), "the first may have been carried out"
    assert reached == ["GET", "DELETE"]


@pytest.mark.parametrize(("left", "kind"), [(9.0, OutOfTime), (99.0, Unavailable)])
async def test_a_write_that_is_not_over_in_time_is_told_from_one_that_fails(left: float, kind: type) -> None:
    async def serve(_: web.Request) -> web.Response:
        return web.Response(
            status=504, text='{"kind":"Status","message":"Timeout: request did not complete"}'
        )

    async with connected(serve) as api:
        api.may_write = lambda namespace: left
        with pytest.raises(Unavailable) as raised:
            await api.apply(SERVICE, LEASED, force=True)
    assert type(raised.value) is kind
