"""A device that is gone: nothing that a request asked for is to blame, and the process ends."""

import pytest
import torch
from whisper_server.engine.interface import Decode, DeviceLost
from whisper_server.engine.torch.host_copy import HostCopy
from whisper_server.engine.torch.kv_cache import Slots

from tests.server.demo_engine import demo_engine, encoded


class Lost(torch.AcceleratorError):
    """What torch says of a device that is gone."""


def test_a_device_that_is_lost_while_texts_join_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not the answer to the one whose window was moved."""
    engine = demo_engine(windows=4)
    windows = encoded(engine, 4)

    def exchange(self: Slots, one: int, other: int) -> None:
        raise Lost("an illegal memory access\nand more")

    monkeypatch.setattr(Slots, "exchange", exchange)
    engine._decoder.row_limit.now = 1
    engine.submit("moved", Decode(window=windows[3], language="en"))
    with pytest.raises(DeviceLost, match=r"^an illegal memory access$"):
        engine.step()


def test_a_device_whose_results_do_not_arrive_is_lost() -> None:
    class Event:
        def synchronize(self) -> None:
            raise Lost("an illegal memory access\nand more")

    with pytest.raises(DeviceLost, match=r"^an illegal memory access$"):
        HostCopy(torch.zeros(1), Event()).arrived()  # type: ignore[arg-type]
