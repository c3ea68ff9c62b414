"""One run of the operator, from beginning to end."""

import asyncio
import os
import signal
from typing import Any

import kopf
import pytest
from whisper_operator import controller
from whisper_operator.config import Settings
from whisper_operator.kube.client import Api
from whisper_operator.process.shutdown import ShutdownWatchdog


class Nowhere(Api):
    """No API server."""

    server = "http://127.0.0.1:1"

    def __init__(self) -> None: ...


@pytest.mark.parametrize("is_told_to_end", [False, True])
async def test_it_begins_anew_unless_it_is_told_to_end_meanwhile(
    is_told_to_end: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kopf takes its time to end, and Kubernetes tells once."""
    running = controller._Running(Nowhere(), Settings(), Nowhere(), "whisper-operator")

    async def kopfs(*, stop_flag: asyncio.Event, **_: Any) -> None:
        await stop_flag.wait()
        if is_told_to_end:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.1)

    async def at_once(*_: object) -> bool:
        return True

    monkeypatch.setattr(kopf, "operator", kopfs)
    monkeypatch.setattr(running.watches, "settle", at_once)
    monkeypatch.setattr(running, "_list_at_first", at_once)
    monkeypatch.setattr(running, "_keep_true", at_once)
    watchdog = ShutdownWatchdog()
    try:
        assert await running.run(watchdog) is not is_told_to_end
    finally:
        watchdog.cancel()
        for sign in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(sign)
