"""How many windows an engine takes at its start: as many as there is memory for beside the most work at once."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from whisper_server.audio.mel import spectrogram
from whisper_server.engine.interface import LoadError
from whisper_server.engine.torch import memory
from whisper_server.engine.torch.memory import Limit, as_large_as_fits
from whisper_server.engine.torch.model import Network

from tests.server.demo_engine import GREEDY, HELLO, demo_engine, encoded
from tests.server.driving import transcribe_all


class Measured:
    """Stands for an engine whose work takes memory as its size says."""

    window_bytes, group_bytes = 100 << 20, 300 << 20

    def __init__(self, windows: int, transient: int) -> None:
        self.windows, self._transient = windows, transient

    def rehearse(self) -> None:
        torch.ones(self._transient, dtype=torch.uint8)

    def record(self) -> None:
        raise AssertionError("this is for GPUs")


@pytest.mark.parametrize(
    ("free", "fitting"), [(6000, 16), (1300, None), (1950, 8), (1050, None), (700, 0)], ids=str
)
def test_windows_are_what_is_left_beside_the_most_work_at_once(
    monkeypatch: pytest.MonkeyPatch, free: int, fitting: int | None
) -> None:
    """Work of 500 MiB is measured as it is done; beside it 300 MiB for groups, 256 MiB to spare, and 100 MiB for each window."""
    monkeypatch.setattr(memory, "free_memory", lambda device: free << 20)

    def make(windows: int) -> Measured:
        return Measured(windows, 500 << 20)

    left = free - 500 - 300 - 256
    if left < 90:
        with pytest.raises(LoadError, match=r"no memory left for a single window .* use a smaller model"):
            as_large_as_fits(make, 16, "cpu")
        return
    found = as_large_as_fits(make, 16, "cpu").windows
    assert abs(found - min(16, left // 100)) <= 1
    assert fitting is None or found == fitting


def test_runs_of_the_encoder_are_rehearsed_in_the_sizes_that_they_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A GPU's libraries plan for each size when they meet it first: not at a user's request."""
    engine = demo_engine(windows=6, fixed_shapes=True)
    engine._encoder.limit = Limit(6)
    sizes: list[int] = []
    encode = Network.encode

    def noted(self: Network, mels: Tensor, *args: Any, **kwargs: Any) -> Iterator[None]:
        sizes.append(len(mels))
        return encode(self, mels, *args, **kwargs)

    monkeypatch.setattr(Network, "encode", noted)
    with torch.inference_mode():
        engine._encoder.rehearse()
    assert sizes == [4, 2, 1]
    encoded(engine, 6)
    assert sizes[3:] == [4, 2]


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: out of memory",
    ],
)
def test_libraries_that_find_no_memory_make_the_engine_smaller(
    monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """They ask the driver for it, beside torch; and what was kept spare for them is free when it is tried again."""
    spares: list[weakref.ref[Tensor]] = []
    empty = torch.empty

    def spare(*size: int, device: str, **how: Any) -> Tensor:
        assert device == "cuda"
        made = empty(1, **how)
        spares.append(weakref.ref(made))
        return made

    class OnGpu(Measured):
        def __init__(self, windows: int) -> None:
            super().__init__(windows, 0)
            assert not any(each() is not None for each in spares), "that of the one before is still taken"

        def rehearse(self) -> None:
            if self.windows > 5:
                raise RuntimeError(words)
            if self.windows < 3:
                raise RuntimeError("another fault")

        def record(self) -> None: ...

    monkeypatch.setattr(memory, "free_memory", lambda device: 1 << 30)
    monkeypatch.setattr(torch, "empty", spare)
    for name in ("memory_allocated", "max_memory_allocated", "reset_peak_memory_stats", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: 0)
    assert as_large_as_fits(OnGpu, 8, "cuda").windows == 5
    with pytest.raises(RuntimeError, match="another fault"):
        as_large_as_fits(OnGpu, 2, "cuda")


def test_the_most_work_at_once_is_as_much_as_a_burst_takes() -> None:
    """What was measured at the start is what the process takes later, with all rows at full length: here by its peak."""
    engine = demo_engine(windows=16)
    engine.rehearse()
    Path("/proc/self/clear_refs").write_text("5")
    before = memory._most_resident()
    told = transcribe_all(engine, [(spectrogram(HELLO, 80), GREEDY)] * 16)
    assert len(told) == 16
    # Slots have been written to for the first time: their memory is reckoned apart.
    grown = memory._most_resident() - before - 16 * engine.window_bytes
    assert grown < memory.SPARE_MEMORY // 2
