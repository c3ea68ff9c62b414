"""What kopf says of its requests, at the level that those who are woken by errors expect."""

import asyncio
import json
import logging
from collections.abc import Iterator

import kopf
import pytest
from aiohttp import web
from kopf._cogs.clients.api import request
from kopf._cogs.clients.auth import APIContext
from kopf._cogs.clients.errors import APITooManyRequestsError
from whisper_operator.process import logs

BACKOFFS = (0.0, 0.0, 0.0)
TOO_MANY = {"kind": "Status", "code": 429, "message": "storage is (re)initializing"}


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root, kopfs = logging.getLogger(), logging.getLogger("kopf")
    handlers, levels = list(root.handlers), (root.level, kopfs.level)
    root.handlers.clear()  # pytest's own: basicConfig(force=True) would close them
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    kopfs.setLevel(levels[1])


async def ask(refusals: int) -> None:
    """A request by kopf of a server that answers 429 so many times first."""
    answers = iter([429] * refusals)

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(TOO_MANY, status=next(answers, 200))

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    context = APIContext(kopf.ConnectionInfo(server=f"http://{host}:{port}"))
    try:
        response = await request(
            "get", "/", settings=kopf.OperatorSettings(), backoffs=BACKOFFS, context=context,
            logger=logging.getLogger("kopf._cogs.clients.watching"),
        )  # fmt: skip
        response.close()
    finally:
        await context.close()
        await runner.cleanup()


def levels_of(text: str) -> list[str]:
    lines = [json.loads(line) for line in text.splitlines()]
    return [line["level"] for line in lines if "Request attempt" in line["message"]]


def test_a_request_asked_to_come_again_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    asyncio.run(ask(refusals=3))
    assert levels_of(capsys.readouterr().err) == ["INFO", "INFO", "WARNING"]


def test_giving_up_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    with pytest.raises(APITooManyRequestsError):
        asyncio.run(ask(refusals=4))
    assert levels_of(capsys.readouterr().err) == ["INFO", "INFO", "WARNING", "ERROR"]


def test_the_level_is_that_of_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    for level, said in (("info", ["a", "b"]), ("warning", ["b"])):
        logs.configure(level)
        logging.getLogger("whisper_operator.apply").info("a")
        logging.getLogger("whisper_operator.apply").warning("b")
        lines = capsys.readouterr().err.splitlines()
        assert [json.loads(line)["message"] for line in lines] == said
    logs.configure()
