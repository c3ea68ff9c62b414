"""A device that runs out of memory: nothing is lost but time, less is done at once, and as much as before when that is over."""

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
from whisper_server.engine.interface import Decode, DeviceLost, Encode, Ticket
from whisper_server.engine.patience import TRIES
from whisper_server.engine.torch import decoder, memory, recovery
from whisper_server.engine.torch.host_copy import upload
from whisper_server.engine.torch.kv_cache import Lane, Rows, Slots
from whisper_server.engine.torch.logits import RowState
from whisper_server.engine.torch.memory import Limit
from whisper_server.engine.torch.model import Network
from whisper_server.engine.torch.runner import Runner

from tests.server.demo_engine import GREEDY, HELLO, decoded, demo_engine, encoded
from tests.server.driving import samples_of, transcribe_all
from tests.server.whisper_process import CLIPS, table


class Clock:
    """Stands for the module `time`: sleeping takes none."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Of what is tried again later."""
    clock = Clock()
    monkeypatch.setattr(recovery, "time", clock, raising=False)
    return clock


FAILING = {"encode": {1}, "prefill": {1, 2}, "step": {1, 9}, "move": {1, 4}, "append": {3, 6, 7}}
"""Which calls find no memory left: passes of the network, and what a token that was chosen needs, when half of it is done."""


@contextmanager
def scarce_memory() -> Iterator[Counter[str]]:
    """A device that is out of memory in the FAILING calls; how often each was called."""
    counts: Counter[str] = Counter()

    def check(name: str) -> None:
        counts[name] += 1
        if counts[name] in FAILING[name]:
            raise torch.OutOfMemoryError("none left")

    def failing(owner: Any, method: str) -> Any:
        original = getattr(owner, method)

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            check(method)
            return original(self, *args, **kwargs)

        patch.setattr(owner, method, call)

    def half_appended(self: RowState, token: Tensor, logprob: Tensor, *args: Any) -> None:
        try:
            check("append")
        except torch.OutOfMemoryError:
            self.sum_logprob.add_(logprob)
            raise
        append(self, token, logprob, *args)

    append = RowState.append
    with pytest.MonkeyPatch.context() as patch:
        for name in ("encode", "prefill", "step"):
            failing(Network, name)
        failing(Rows, "move")
        patch.setattr(RowState, "append", half_appended)
        yield counts


@pytest.mark.parametrize(("windows", "lag"), [(16, 0), (3, 1), (1, 0)])
@pytest.mark.parametrize(
    "asked",
    [{}, {"beam_size": 3}, {"temperatures": (0.8,)}, {"temperatures": (0.8,), "best_of": 3}],
    ids=["greedy", "beams", "sampled", "best of 3"],
)
def test_out_of_memory_costs_retries_and_nothing_else(
    asked: dict[str, Any], windows: int, lag: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With three files: some slots are free, or all are taken."""
    monkeypatch.setattr(memory, "PATIENCE", 4)
    engine = demo_engine(windows=windows, lag=lag)
    files = [(spectrogram(HELLO, 80), replace(GREEDY, **asked)) for _ in range(3)]
    expected = [told.segments for told in transcribe_all(engine, files)]
    with scarce_memory() as counts:
        found = [told.segments for told in transcribe_all(engine, files)]
    happened = {name: sum(counts[name] >= call for call in calls) for name, calls in FAILING.items()}
    groups = {"beam_size", "best_of"} & set(asked)
    assert {name for name, times in happened.items() if times} == set(FAILING) - (
        set() if groups else {"move"}
    )
    assert engine.stats.out_of_memory == sum(happened.values())
    for mine, wanted in zip(itertools.chain(*found), itertools.chain(*expected), strict=True):
        assert mine.tokens == wanted.tokens
        assert mine.avg_logprob == pytest.approx(wanted.avg_logprob, abs=1e-4)
    # No slot is lost, and what was made smaller is as large as before after a while.
    assert engine.windows == engine._slots.free == windows
    assert all(engine._slots._free_group_rows)
    while engine._decoder.row_limit.now < windows:
        transcribe_all(engine, files[:1])


def with_memory_for(patch: pytest.MonkeyPatch, enough: Callable[[int, int], bool]) -> None:
    """Let a step find memory where `enough` says so of its rows and the length of what they read."""
    step = Network.step

    def scarce(
        self: Network, tokens: Tensor, positions: Tensor, length: int, lanes: Sequence[Lane]
    ) -> Tensor:
        if not enough(len(tokens), length):
            raise torch.OutOfMemoryError("none left")
        return step(self, tokens, positions, length, lanes)

    patch.setattr(Network, "step", scarce)


def test_with_memory_for_few_rows_all_windows_are_decoded_in_those(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them is released meanwhile: those that wait change places with those that are done."""
    monkeypatch.setattr(memory, "PATIENCE", 8)
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
            found |= {ticket: answer.tokens for ticket, answer in engine.step()}
        return found

    expected = decoded()
    with monkeypatch.context() as patch:
        with_memory_for(patch, lambda rows, length: rows <= 4)
        assert decoded() == expected
        assert engine.windows == 16
        assert engine.stats.out_of_memory >= 2
    # The pressure is over.
    while engine._decoder.row_limit.now < 16:
        assert decoded() == expected
    assert engine.stats.out_of_memory < 40


def none_left(*args: Any, **kwargs: Any) -> None:
    raise torch.OutOfMemoryError("none left")


def test_where_windows_find_no_memory_to_change_places_texts_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """That closes gaps only: it is left for a while, and costs no request and not the device."""
    engine = demo_engine(windows=2)
    lower, upper = encoded(engine, 2)
    engine.release(lower)
    monkeypatch.setattr(Slots, "exchange", none_left)
    endless = Decode(window=upper, language="en", suppress_tokens=(-1, engine._vocabulary.eot), sample_len=60)
    answers = decoded(engine, {"upper": endless})
    assert len(answers["upper"].tokens) == 60
    assert engine.stats.out_of_memory == 1
    monkeypatch.undo()
    for _ in range(memory.PATIENCE):
        decoded(engine, {"upper": endless}, steps=1)
        engine.cancel("upper")
    assert upper.slot == 0, "the gap is closed when there is memory again"


def test_a_burst_of_windows_is_encoded_in_smaller_batches_where_memory_is_scarce(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = demo_engine(windows=8)
    engine._encoder.limit = Limit(8)
    mel = spectrogram(HELLO, 80).beginning()
    sizes: list[int] = []
    encode = Network.encode

    def scarce(self: Network, mels: Tensor, *args: Any, **kwargs: Any) -> Iterator[None]:
        sizes.append(len(mels))
        if len(mels) > 2:
            raise torch.OutOfMemoryError("none left")
        return encode(self, mels, *args, **kwargs)

    monkeypatch.setattr(Network, "encode", scarce)
    for number in range(8):
        engine.submit(number, Encode(mel=mel))
    windows: dict[Ticket, Any] = {}
    while engine.busy():
        windows |= engine.step()
    assert sizes == [8, 4, 2, 2, 2, 2]
    assert set(windows) == set(range(8))
    assert {window.slot for window in windows.values()} == set(range(8))


def test_a_shortage_of_a_second_costs_no_request(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    engine = demo_engine(windows=3)
    files = [(spectrogram(HELLO, 80), GREEDY)] * 3
    expected = [told.segments for told in transcribe_all(engine, files)]
    begin, encode = clock.now, Network.encode

    def scarce(self: Network, *args: Any, **kwargs: Any) -> Iterator[None]:
        if clock.now < begin + 1:
            raise torch.OutOfMemoryError("none left")
        return encode(self, *args, **kwargs)

    monkeypatch.setattr(Network, "encode", scarce)
    with_memory_for(monkeypatch, lambda rows, length: clock.now >= begin + 2)
    found = [told.segments for told in transcribe_all(engine, files)]
    assert [[each.tokens for each in segments] for segments in found] == [
        [each.tokens for each in segments] for segments in expected
    ]
    assert 2 <= clock.now - begin < 4


def test_who_tries_again_later_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """One text never finds the memory that it needs; those beside it are done before it is tried twice."""
    engine = demo_engine(windows=3)
    windows = encoded(engine, 3)
    prefill = Runner.prefill

    def scarce(self: Runner, prompts: Sequence[Any]) -> None:
        if any(len(prompt.tokens) > 100 for prompt in prompts):
            raise torch.OutOfMemoryError("none left")
        prefill(self, prompts)

    monkeypatch.setattr(Runner, "prefill", scarce)
    begin = clock.now
    engine.submit("long", Decode(window=windows[0], language="en", prompt=[100] * 200))
    engine.step()
    for number in (1, 2):
        engine.submit(number, Decode(window=windows[number], language="en"))
    answers: dict[Ticket, Any] = {}
    while len(answers) < 2:
        answers |= engine.step()
    assert set(answers) == {1, 2}
    assert clock.now - begin < 0.1
    while engine.busy():
        answers |= engine.step()
    assert isinstance(answers["long"], torch.OutOfMemoryError)
    assert 7 < clock.now - begin < 9


def test_a_group_that_finds_no_memory_leaves_single_rows_alone(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """Its rows change places, which takes memory; theirs don't."""
    engine = demo_engine(windows=7)
    windows = encoded(engine, 7)
    greedy: dict[Ticket, Decode] = {
        number: Decode(window=windows[number], language="en") for number in range(6)
    }
    expected = decoded(engine, greedy)
    steps = engine.stats.steps
    decoded(engine, greedy)
    usual = engine.stats.steps - steps
    monkeypatch.setattr(Runner, "follow", none_left)
    steps = engine.stats.steps
    beams = Decode(window=windows[6], language="en", beam_size=5)
    engine.submit("beams", beams)
    found: dict[Ticket, Any] = {}
    for ticket, request in greedy.items():
        engine.submit(ticket, request)
    while not set(greedy) <= set(found):
        found |= engine.step()
        assert engine._decoder.row_limit.now == 7
    assert engine.stats.steps - steps <= usual + 1
    assert {number: found[number].tokens for number in greedy} == {
        number: expected[number].tokens for number in greedy
    }
    while engine.busy():
        found |= engine.step()
    assert isinstance(found["beams"], torch.OutOfMemoryError)


@pytest.mark.parametrize("enough", [0, 65], ids=["never", "for short texts"])
def test_a_request_that_there_is_never_memory_for_fails_alone_and_the_device_after_several(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, enough: int
) -> None:
    engine = demo_engine(windows=1)
    hello = spectrogram(HELLO, 80)
    long_one = replace(GREEDY, initial_prompt="hello world " * 40)
    with_memory_for(monkeypatch, lambda rows, length: length < enough)

    def fails() -> None:
        with pytest.raises(torch.OutOfMemoryError):
            transcribe_all(engine, [(hello, long_one)])
        engine.release(*engine._slots.windows.values())

    fails()
    assert engine.stats.out_of_memory == TRIES
    if enough:
        told = transcribe_all(engine, [(hello, GREEDY)])
        assert "".join(segment.text for segment in told[0].segments) == " hello world please play music"
        fails()
    fails()
    with pytest.raises(DeviceLost, match="out of memory 36 times without a text between"):
        fails()


def test_a_shortage_long_ago_and_one_of_a_moment_are_no_lost_device(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """Nobody asked for anything between them: nothing says that memory was short all the time."""
    engine = demo_engine(windows=3)
    requests: dict[Ticket, Decode] = {
        number: Decode(window=window, language="en") for number, window in enumerate(encoded(engine, 3))
    }
    with monkeypatch.context() as patch:
        with_memory_for(patch, lambda rows, length: False)
        answers = decoded(engine, requests)
    assert [type(answers[number]) for number in range(3)] == [torch.OutOfMemoryError] * 3
    assert engine.stats.out_of_memory >= recovery.MOST_FAILURES
    clock.now += 3600
    once = iter([False])
    with_memory_for(monkeypatch, lambda rows, length: next(once, True))
    assert decoded(engine, {"next": requests[0]})["next"].tokens
    assert next(once, None) is None


def test_a_limit_that_fails_again_and_again_is_tried_more_and_more_rarely() -> None:
    limit = Limit(16)
    limit.failed(12)
    assert limit.now == 6
    tried = []
    for step in range(6000):
        if limit.now > 6:
            limit.failed(limit.now)
            tried.append(step)
        limit.went_well()
    assert 4 < len(tried) < 12
    waits = [second - first for first, second in itertools.pairwise(tried)]
    assert waits == sorted(waits)


def test_after_one_shortage_as_much_is_done_as_before_soon() -> None:
    """However often it was halved meanwhile."""
    limit = Limit(128)
    while limit.now > 1:
        limit.failed(limit.now)
    for _ in range(7 * memory.PATIENCE):
        limit.went_well()
    assert limit.now == 128


def test_what_a_request_bans_finds_no_memory_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    engine = demo_engine(windows=1)
    (window,) = encoded(engine, 1)
    calls = 0

    def scarce(*args: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise torch.OutOfMemoryError("none left")
        return upload(*args)

    monkeypatch.setattr(decoder, "upload", scarce)
    answers = decoded(engine, {"it": Decode(window=window, language="en", suppress_tokens=(-1, 7))})
    assert answers["it"].tokens
