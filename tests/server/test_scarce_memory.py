"""A device that runs out of memory: nothing is lost but time, less is done at once, and as much as before when that is over."""

import itertools
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from whisper_server.audio.mel import spectrogram
from whisper_server.engine.checkpoint import load_checkpoint
from whisper_server.engine.interface import Decode, DeviceLost, Encode, LoadError, Ticket
from whisper_server.engine.patience import TRIES
from whisper_server.engine.torch import decoder, memory, recovery
from whisper_server.engine.torch.engine import OpenAIWhisper
from whisper_server.engine.torch.host_copy import HostCopy, upload
from whisper_server.engine.torch.kv_cache import CacheShape, Lane, Rows, Slots
from whisper_server.engine.torch.load import make_engine, model_info
from whisper_server.engine.torch.logits import RowState, Vocabulary
from whisper_server.engine.torch.memory import Limit, as_large_as_fits
from whisper_server.engine.torch.model import Network
from whisper_server.engine.torch.runner import Runner
from whisper_server.transcribe.options import Options

from tests.server.driving import samples_of, transcribe_all
from tests.server.whisper_process import CLIPS, EXAMPLES, table

GREEDY = Options(language="en", temperatures=(0.0,), condition_on_previous_text=False)
HELLO = samples_of(EXAMPLES / "hello.wav")


def demo_engine(windows: int, lag: int = 0, **how: Any) -> OpenAIWhisper:
    checkpoint = load_checkpoint("demo", None)
    info = model_info("demo", checkpoint)
    return make_engine(checkpoint, info, torch.float32, "cpu", windows=windows, lag=lag, **how)


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


def encoded(engine: OpenAIWhisper, count: int) -> list[Any]:
    """So many windows of one sound."""
    mel = spectrogram(HELLO, 80).beginning()
    for number in range(count):
        engine.submit(number, Encode(mel=mel))
    windows: dict[Ticket, Any] = {}
    while engine.busy():
        windows |= engine.step()
    return [windows[number] for number in range(count)]


def decoded(engine: OpenAIWhisper, requests: dict[Ticket, Decode], steps: int = 10**6) -> dict[Ticket, Any]:
    """What was answered in so many steps at most."""
    for ticket, request in requests.items():
        engine.submit(ticket, request)
    answers: dict[Ticket, Any] = {}
    while engine.busy() and steps:
        answers |= engine.step()
        steps -= 1
    return answers


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


def large_slots() -> Slots:
    """Of a model with 29 MiB of keys and values to a row, all of which have been written to."""
    shape = CacheShape(layers=32, heads=4, width=64, dtype=torch.float32, device=torch.device("cpu"))
    vocabulary = Vocabulary(size=100, eot=50, timestamp_begin=60, no_speech=55, blank=(1,))
    slots = Slots(shape, vocabulary, count=2, group_rows=8, n_audio_ctx=64, n_text_ctx=448)
    for cache in (slots.cross_kv, slots.rows.self_kv):
        cache.kv.fill_(1)
    return slots


def test_windows_change_places_without_memory() -> None:
    slots = large_slots()
    lower, upper = slots.take(), slots.take()
    slots.give_back(lower)
    assert memory._most_taken_by(slots.close_gap) < 8 << 20
    assert upper.slot == 0
    slots.take()
    assert memory._most_taken_by(lambda: slots.exchange(0, 1)) < 8 << 20
    assert upper.slot == 1


def test_beams_change_places_in_memory_for_a_layer() -> None:
    """On a CPU, where a machine without memory ends the process; on a GPU that is rehearsed."""
    rows = list(range(2, 10))
    slots = large_slots()
    taken = memory._most_taken_by(lambda: slots.rows.move(rows[::-1], rows, 448))
    assert taken < 16 << 20
    engine = demo_engine(windows=2, fixed_shapes=True)
    moved: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Rows, "move", lambda self, sources, targets, length: moved.append((len(targets), length))
        )
        engine.rehearse()
    assert moved == [(8, 448)]


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
