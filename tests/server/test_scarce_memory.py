"""A device that runs out of memory: nothing is lost, and less is done at a time."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from whisper_server.audio.mel import spectrogram
from whisper_server.engine.checkpoint import load_checkpoint
from whisper_server.engine.interface import Decode, DeviceLost, Encode, Ticket
from whisper_server.engine.torch.engine import OpenAIWhisper
from whisper_server.engine.torch.load import make_engine, model_info
from whisper_server.engine.torch.logits import Rows, Vocabulary
from whisper_server.engine.torch.model import Lane, Network
from whisper_server.transcribe.options import Options

from tests.server.driving import samples_of, transcribe_all
from tests.server.whisper_process import CLIPS, EXAMPLES, table

GREEDY = Options(language="en", temperatures=(0.0,), condition_on_previous_text=False)
HELLO = samples_of(EXAMPLES / "hello.wav")


def demo_engine(windows: int, lag: int = 0) -> OpenAIWhisper:
    checkpoint = load_checkpoint("demo", None)
    info = model_info("demo", checkpoint)
    return make_engine(checkpoint, info, torch.float32, "cpu", windows=windows, lag=lag)


FAILING = {"encode": {1}, "prefill": {1, 2}, "step": {1, 9}, "reorder": {1, 4}, "take": {3, 6, 7}}
"""Which calls find no memory left: passes of the network, and what a token that was chosen needs, when half of it is done."""


@contextmanager
def scarce_memory() -> Iterator[None]:
    """A device that is out of memory in the FAILING calls."""
    counts: Counter[str] = Counter()

    def check(name: str) -> None:
        counts[name] += 1
        if counts[name] in FAILING[name]:
            raise torch.OutOfMemoryError("none left")

    def failing(owner: Any, method: str, name: str) -> Any:
        original = getattr(owner, method)

        def call(self: Any, *args: Any) -> Any:
            check(name)
            return original(self, *args)

        patch.setattr(owner, method, call)

    def half_taken(self: Rows, token: Tensor, logprob: Tensor, vocabulary: Vocabulary) -> None:
        try:
            check("take")
        except torch.OutOfMemoryError:
            self.sum_logprob.add_(logprob)
            raise
        take(self, token, logprob, vocabulary)

    take = Rows.take
    with pytest.MonkeyPatch.context() as patch:
        for name in ("encode", "prefill", "step"):
            failing(Network, name, name)
        failing(OpenAIWhisper, "_reorder", "reorder")
        patch.setattr(Rows, "take", half_taken)
        yield
    # Only beams are reordered.
    happened = {name for name, calls in FAILING.items() if counts[name] > max(calls)}
    assert happened | {"reorder"} == set(FAILING)


@pytest.mark.parametrize(("windows", "lag"), [(16, 0), (3, 1), (1, 0)])
@pytest.mark.parametrize(
    "asked",
    [{}, {"beam_size": 3}, {"temperatures": (0.8,)}, {"temperatures": (0.8,), "best_of": 3}],
    ids=["greedy", "beams", "sampled", "best of 3"],
)
def test_out_of_memory_loses_nothing_but_room(asked: dict[str, Any], windows: int, lag: int) -> None:
    """With three files: some slots are free, or all are taken."""
    engine = demo_engine(windows=windows, lag=lag)
    files = [(spectrogram(HELLO, 80), replace(GREEDY, **asked)) for _ in range(3)]
    expected = [told.segments for told in transcribe_all(engine, files)]
    with scarce_memory():
        found = [told.segments for told in transcribe_all(engine, files)]
    for mine, wanted in zip(itertools.chain(*found), itertools.chain(*expected), strict=True):
        assert mine.tokens == wanted.tokens
        assert mine.avg_logprob == pytest.approx(wanted.avg_logprob, abs=1e-4)
    assert engine.windows < windows or windows == 1
    assert engine._slots.free == engine.windows
    assert all(engine._slots._free_group_rows)


def with_memory_for(patch: pytest.MonkeyPatch, enough: Callable[[int, int], bool]) -> None:
    """Let a step find memory where `enough` says so of its rows and its longest position."""
    step = Network.step

    def scarce(
        self: Network, tokens: Tensor, positions: Tensor, longest: int, lanes: Sequence[Lane]
    ) -> Tensor:
        if not enough(len(tokens), longest):
            raise torch.OutOfMemoryError("none left")
        return step(self, tokens, positions, longest, lanes)

    patch.setattr(Network, "step", scarce)


def test_with_memory_for_few_rows_all_windows_are_decoded_in_those(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = demo_engine(windows=16)
    sounds = [spectrogram(samples_of(CLIPS / name), 80) for name in table(CLIPS / "manifest.tsv")]
    for number in range(16):
        engine.submit(number, Encode(mel=sounds[number % len(sounds)].beginning()))
    windows: dict[Ticket, Any] = {}
    while engine.busy():
        windows |= engine.step()

    def decoded() -> dict[Ticket, Any]:
        for number in range(16):
            engine.submit(number, Decode(window=windows[number], language="en"))
        found: dict[Ticket, Any] = {}
        while engine.busy():
            for ticket, answer in engine.step():
                found[ticket] = answer.tokens
                if engine._slots.owed:  # as a file does that goes on to its next window
                    engine.release(windows.pop(ticket))
        return found

    expected = decoded()
    with_memory_for(monkeypatch, lambda rows, longest: rows <= 4)
    assert decoded() == expected
    assert engine.windows <= 4
    assert set(engine._slots.windows) == set(range(len(windows)))


@pytest.mark.parametrize("enough", [0, 8], ids=["never", "for short texts"])
def test_out_of_memory_for_a_single_window_loses_the_device(
    monkeypatch: pytest.MonkeyPatch, enough: int
) -> None:
    engine = demo_engine(windows=1)
    with_memory_for(monkeypatch, lambda rows, longest: longest < enough)
    with pytest.raises(DeviceLost, match="out of memory 10 times"):
        transcribe_all(engine, [(spectrogram(HELLO, 80), GREEDY)])
