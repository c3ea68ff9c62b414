"""A fault in one request ends that request; a row that nobody looks at, whatever is in it, changes nothing in the others."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from whisper import timing
from whisper_server.audio.mel import spectrogram
from whisper_server.engine.checkpoint import load_checkpoint
from whisper_server.engine.interface import Align, Decode, Detect, Encode, Ticket
from whisper_server.engine.torch import alignment
from whisper_server.engine.torch.engine import OpenAIWhisper
from whisper_server.engine.torch.load import make_engine, model_info
from whisper_server.engine.torch.runner import Prompt, Runner
from whisper_server.engine.torch.sampling import Beam

from tests.server.driving import samples_of
from tests.server.whisper_process import CLIPS, table

MELS = [spectrogram(samples_of(CLIPS / name), 80).beginning() for name in table(CLIPS / "manifest.tsv")]


def demo_engine(windows: int = 6, *, fixed: bool) -> OpenAIWhisper:
    demo = load_checkpoint("demo", None)
    return make_engine(
        *(demo, model_info("demo", demo), torch.float32, "cpu"),
        windows=windows,
        lag=int(fixed),
        fixed_shapes=fixed,
        graphs=fixed,
    )


def answers(engine: OpenAIWhisper, requests: dict[Ticket, Any]) -> dict[Ticket, Any]:
    """Of requests that are made at once."""
    for ticket, request in requests.items():
        engine.submit(ticket, request)
    found: dict[Ticket, Any] = {}
    while engine.busy():
        found |= engine.step()
    return found


def encoded(engine: OpenAIWhisper, count: int) -> list[Any]:
    found = answers(engine, {number: Encode(mel=MELS[number]) for number in range(count)})
    return [found[number] for number in range(count)]


BAD_PROMPT = [13, 13, 13]


def fails_in_step(patch: pytest.MonkeyPatch, engine: OpenAIWhisper) -> None:
    decode = Runner.decode

    def faulty(self: Runner, *args: Any, **kwargs: Any) -> Any:
        if any(sequence.ticket == "bad" for sequence in engine._decoder.singles):
            raise RuntimeError("a fault")
        return decode(self, *args, **kwargs)

    patch.setattr(Runner, "decode", faulty)


def fails_in_prefill(patch: pytest.MonkeyPatch, engine: OpenAIWhisper) -> None:
    prefill = Runner.prefill

    def faulty(self: Runner, prompts: Sequence[Prompt]) -> None:
        if any(BAD_PROMPT[0] in prompt.tokens for prompt in prompts):
            raise RuntimeError("a fault")
        prefill(self, prompts)

    patch.setattr(Runner, "prefill", faulty)


def fails_in_search(patch: pytest.MonkeyPatch, engine: OpenAIWhisper) -> None:
    update = Beam.update

    def faulty(self: Beam, choices: Any) -> Any:
        if self._size == 4:
            raise RuntimeError("a fault")
        return update(self, choices)

    patch.setattr(Beam, "update", faulty)


def fails_in_following(patch: pytest.MonkeyPatch, engine: OpenAIWhisper) -> None:
    follow = Runner.follow

    def faulty(self: Runner, group: Any, length: int) -> None:
        if group.size == 4:
            raise RuntimeError("a fault")
        follow(self, group, length)

    patch.setattr(Runner, "follow", faulty)


@pytest.mark.parametrize("fixed", [False, True], ids=["as it comes", "fixed shapes"])
@pytest.mark.parametrize(
    ("fault", "asked"),
    [
        (fails_in_step, {}),
        (fails_in_prefill, {"prompt": BAD_PROMPT * 5}),
        (fails_in_search, {"beam_size": 4}),
        (fails_in_following, {"beam_size": 4}),
        (None, {"suppress_tokens": (51865,)}),
        (None, {"prompt": [-5]}),
        (None, {"language": "xx"}),
        (None, {"language": "xx", "beam_size": 4}),
        (None, {"beam_size": 9}),
    ],
    ids=[
        "step",
        "prefill",
        "search",
        "following",
        "suppress_tokens",
        "prompt",
        "language",
        "language of beams",
        "beam_size",
    ],
)
def test_an_exception_ends_the_request_that_it_is_about(
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[pytest.MonkeyPatch, OpenAIWhisper], None] | None,
    asked: dict[str, Any],
    fixed: bool,
) -> None:
    engine = demo_engine(fixed=fixed)
    windows = encoded(engine, 5)
    good: dict[Ticket, Any] = {
        number: Decode(window=window, language="en", beam_size=3 if number == 2 else None)
        for number, window in enumerate(windows[:4])
    }
    expected = answers(engine, good)
    if fault:
        fault(monkeypatch, engine)
    bad = Decode(window=windows[4], **{"language": "en", **asked})
    found = answers(engine, {0: good[0], "bad": bad, **{number: good[number] for number in (1, 2, 3)}})
    assert isinstance(found["bad"], RuntimeError if fault else ValueError)
    assert found["bad"].__traceback__ is None, "it would keep tensors"
    assert {ticket: found[ticket].tokens for ticket in good} == {
        ticket: expected[ticket].tokens for ticket in good
    }
    for window in windows:
        engine.release(window)
    assert engine._slots.free == engine.windows
    assert all(engine._slots._free_group_rows)
    assert engine.stats.out_of_memory == 0


def test_an_alignment_that_fails_ends_its_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = demo_engine(fixed=False)
    windows = encoded(engine, 2)
    filtered = timing.median_filter

    def faulty(weights: Any, width: int) -> Any:
        if weights.shape[-1] == 77:
            raise RuntimeError("a fault")
        return filtered(weights, width)

    monkeypatch.setattr(alignment, "median_filter", faulty)

    def aligned(window: Any, tokens: tuple[int, ...], frames: int) -> Align:
        return Align(window=window, text_tokens=tokens, language="en", task="transcribe", num_frames=frames)

    found = answers(
        engine,
        {
            "bad": aligned(windows[0], (6616,), 154),
            "no token": aligned(windows[0], (99999,), 500),
            "good": aligned(windows[1], (6616, 1002), 500),
            "text": Decode(window=windows[0], language="en"),
            "language": Detect(window=windows[1]),
        },
    )
    assert str(found["bad"]) == "a fault"
    assert str(found["no token"]) == "text_tokens: there is no token 99999"
    assert len(found["good"].token_probabilities) == 2
    assert found["text"].tokens
    assert max(found["language"], key=found["language"].__getitem__) == "en"


def test_alignment_by_parts_is_the_alignment_of_all_heads_and_takes_little_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As many heads as a large model has of which nobody has said which follow the speech: 320."""
    generator = torch.Generator().manual_seed(0)
    scores = [torch.randn((60, 1500), generator=generator) * 3 for _ in range(320)]
    logits = torch.randn((60, 100), generator=generator)
    largest = 0
    filtered = timing.median_filter

    def watched(weights: torch.Tensor, width: int) -> Any:
        nonlocal largest
        largest = max(largest, weights.nbytes)
        return filtered(weights, width)

    monkeypatch.setattr(alignment, "median_filter", watched)

    def aligned(part_bytes: int) -> alignment.TorchAlignment:
        monkeypatch.setattr(alignment, "PART_BYTES", part_bytes)
        return alignment.align(iter([*scores, logits]), 320, list(range(50)), 3, 1000, eot=90)()

    apart = aligned(64 << 20)
    assert largest * alignment._FOLD <= (64 << 20) + scores[0][:, :500].nbytes * alignment._FOLD
    whole = aligned(1 << 62)
    assert np.allclose(apart.matrix, whole.matrix, atol=1e-6)
    assert all(np.array_equal(*pair) for pair in zip(apart.path(), whole.path(), strict=True))
    assert apart.token_probabilities == whole.token_probabilities


def poison(engine: OpenAIWhisper) -> None:
    """NaN wherever no text lives: in keys and values of rows and windows that are free, and in all noise that is left over."""
    slots, runner = engine._slots, engine._runner
    used = {sequence.window.slot for sequence in engine._decoder.singles}
    for group in engine._decoder.groups:
        used |= set(range(group.first_row, group.first_row + group.size))
    for row in range(slots.count + slots.group_rows):
        if row not in used:
            slots.rows.self_kv.kv[:, row] = torch.nan
            slots.rows.state.sum_logprob[row] = torch.nan
            slots.rows.state.temperature[row] = torch.nan
            slots.rows.state.no_speech[row] = torch.nan
            slots.rows.state.position[row] = 10**6
    for slot in set(range(slots.count)) - set(slots.windows):
        slots.cross_kv.kv[:, slot] = torch.nan
    runner.noise.fill_(torch.nan)
    if runner._group_cross_kv is not None:
        taken = {(group.first_row - slots.count) // 8 for group in engine._decoder.groups}
        for number in set(range(slots.group_rows // 8)) - taken:
            runner._group_cross_kv.kv[:, number] = torch.nan


@pytest.mark.parametrize("fixed", [False, True], ids=["as it comes", "fixed shapes"])
def test_what_lies_in_rows_that_nobody_looks_at_does_not_reach_the_others(
    fixed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Texts of every kind join at different steps, in slots used before; one is cancelled."""

    def found(spoil: Callable[[OpenAIWhisper], None]) -> dict[Ticket, Any]:
        engine = demo_engine(windows=7, fixed=fixed)
        windows = encoded(engine, 5)
        window = dict(enumerate(windows))
        requests: list[tuple[int, Ticket, Any]] = [
            (0, "greedy", Decode(window=window[0], language="en")),
            (0, "language", Detect(window=window[4])),
            (1, "beams", Decode(window=window[1], language="en", beam_size=3, prompt=[6616, 1002])),
            (2, "cancelled", Decode(window=window[2], language="en", prompt=[6616] * 100, sample_len=9)),
            (3, "sampled", Decode(window=window[3], language="en", temperature=0.8, seed=7)),
            (5, "best", Decode(window=window[4], language="en", temperature=0.6, best_of=4, seed=8)),
            (9, "again", Decode(window=window[2], language="en", prompt=[6616] * 100, sample_len=9)),
            (20, "late", Decode(window=window[0], language="de", task="translate", without_timestamps=True)),
        ]
        answers: dict[Ticket, Any] = {}
        for step in range(1000):
            for _, ticket, request in (entry for entry in requests if entry[0] == step):
                engine.submit(ticket, request)
            if step == 5:
                engine.cancel("cancelled")
            if step > 20 and not engine.busy():
                break
            with torch.inference_mode():
                spoil(engine)
            answers |= engine.step()
        return answers

    clean, spoilt = found(lambda engine: None), found(poison)
    assert set(clean) == {"greedy", "language", "beams", "sampled", "best", "again", "late"}
    assert spoilt == clean
    assert not caplog.records, "every pass was recorded at the start"


@pytest.mark.parametrize("fixed", [False, True], ids=["as it comes", "fixed shapes"])
def test_a_window_whose_encode_is_cancelled_is_freed(fixed: bool) -> None:
    engine = demo_engine(windows=2, fixed=fixed)
    (window,) = encoded(engine, 1)
    engine.submit("text", Decode(window=window, language="en"))
    engine.step()
    engine._encoder.parts = 4
    engine.submit("gone", Encode(mel=MELS[1]))
    engine.step()
    engine.cancel("gone")
    found: dict[Ticket, Any] = {}
    while engine.busy():
        found |= engine.step()
    assert set(found) == {"text"}
    engine.release(window)
    assert engine._slots.free == 2
