"""The client, against a server that answers as an API server does."""

import pytest
from aiohttp import web
from kubernetes.aio import client
from whisper_operator.kube.client import LONGEST_WAIT, Api
from whisper_operator.kube.errors import Conflict, Forbidden, NoSuchKind, Refused, Unavailable
from whisper_operator.kube.kinds import SERVICE


async def failure(status: int, text: str, **headers: str) -> Exception:
    """What becomes of an answer."""

    async def serve(_: web.Request) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, text=text, headers=named)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = client.Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
    try:
        async with client.ApiClient(configuration) as connection:
            with pytest.raises(Exception) as raised:  # noqa: PT011 - it is told apart below
                await Api(connection).delete(SERVICE, "n", "w", "u")
        return raised.value
    finally:
        await runner.cleanup()


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


def test_a_kind_that_is_not_there_is_a_refusal() -> None:
    assert issubclass(NoSuchKind, Refused)
    assert issubclass(Forbidden, Refused)
