"""The engine on CTranslate2, driven directly, against openai-whisper on the same weights."""

import csv
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import torch
import whisper
from whisper.audio import N_FRAMES, load_audio, log_mel_spectrogram, pad_or_trim
from whisper_server.audio.mel import spectrogram
from whisper_server.config import Settings
from whisper_server.engine.checkpoint import demo_checkpoint, load_checkpoint
from whisper_server.engine.ctranslate2 import convert
from whisper_server.engine.ctranslate2.engine import FasterWhisper, Window
from whisper_server.engine.ctranslate2.load import load
from whisper_server.engine.ctranslate2.memory import EASING_CALLS, Pressure
from whisper_server.engine.interface import Align, Decode, Detect, DeviceLost, Encode, LoadError, Request
from whisper_server.engine.patience import TRIES, pause_after
from whisper_server.engine.tokens import tokenizer_of
from whisper_server.transcribe.options import Options

from tests.server.driving import samples_of, transcribe_all

CLIPS = Path(__file__).parent / "clips"
SETTINGS = replace(Settings(), model="demo", engine="faster-whisper", device="cpu", dtype="float32")


@cache
def engine(dtype: str = "float32") -> FasterWhisper:
    return load(replace(SETTINGS, dtype=dtype))


@pytest.fixture(scope="module")
def checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's weights, as a file of openai-whisper's."""
    path = tmp_path_factory.mktemp("weights") / "demo.pt"
    path.write_bytes(demo_checkpoint())
    return path


@pytest.fixture(scope="module")
def reference(checkpoint_path: Path) -> Any:
    return whisper.load_model(str(checkpoint_path), device="cpu")


@cache
def manifest() -> list[tuple[str, str]]:
    with (CLIPS / "manifest.tsv").open() as file:
        return [(row["file"], row["text"]) for row in csv.DictReader(file, delimiter="\t")]


@cache
def mel(number: int) -> Any:
    name, _ = manifest()[number]
    return pad_or_trim(log_mel_spectrogram(load_audio(str(CLIPS / name))), N_FRAMES).numpy()


def drive(requests: Sequence[Request], dtype: str = "float32") -> list[Any]:
    """All of them at once; the answers."""
    used = engine(dtype)
    answers: dict[Any, Any] = {}
    for number, request in enumerate(requests):
        used.submit(number, request)
    while used.busy():
        for ticket, answer in used.step():
            assert not isinstance(answer, Exception)
            answers[ticket] = answer
    return [answers[number] for number in range(len(requests))]


class Windows:
    """Encoded windows of some clips, given back at the end."""

    def __init__(self, numbers: Sequence[int], dtype: str = "float32") -> None:
        self._numbers, self._dtype = numbers, dtype

    def __enter__(self) -> list[Window]:
        self._windows: list[Window] = drive(
            [Encode(mel=mel(number)) for number in self._numbers], self._dtype
        )
        return self._windows

    def __exit__(self, *_: object) -> None:
        for window in self._windows:
            engine(self._dtype).release(window)


def errors(texts: Sequence[str]) -> float:
    return float(jiwer.wer([text for _, text in manifest()], [text.strip() for text in texts]))


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_hears_what_openai_whisper_hears(dtype: str, reference: Any) -> None:
    options = whisper.DecodingOptions(language="en", fp16=False)
    expected = whisper.decode(
        reference, torch.from_numpy(np.stack([mel(number) for number in range(12)])), options
    )
    with Windows(range(12), dtype) as windows:
        found = drive([Decode(window=window, language="en") for window in windows], dtype)
    texts = [tokenizer_of(engine(dtype).info).decode(list(result.tokens)) for result in found]
    # The demo has 128 channels, few for 8 bits, and little margin: three of these clips' 94 words are others then.
    allowed = 0.005 if dtype == "float32" else 0.04
    assert abs(errors(texts) - errors([result.text for result in expected])) <= allowed
    if dtype == "float32":
        for result, wanted in zip(found, expected, strict=True):
            assert list(result.tokens) == wanted.tokens
            assert result.avg_logprob == pytest.approx(wanted.avg_logprob, abs=1e-3)
            assert result.no_speech_prob == pytest.approx(wanted.no_speech_prob, abs=1e-3)


def test_a_mixed_batch_equals_one_by_one() -> None:
    prompts: list[list[int]] = [[], [], list(range(1000, 1040)), list(range(2000, 2400))]
    with Windows(range(4)) as windows:
        requests: list[Request] = [
            Decode(
                window=windows[number],
                language=language,
                task=task,
                prompt=prompts[number],
                beam_size=beam,
                without_timestamps=plain,
                sample_len=length,
            )
            for number in range(4)
            for language, task in (("en", "transcribe"), ("de", "translate"))
            for beam, plain, length in ((None, False, None), (3, False, None), (None, True, 5))
        ]
        together = drive(requests)
        alone = [drive([request])[0] for request in requests]
    assert [each.tokens for each in together] == [each.tokens for each in alone]
    assert all(len(each.tokens) <= 5 for each in together[2::3])


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # in openai-whisper
def test_beams_and_lengths_as_openai_whisper(reference: Any) -> None:
    options = whisper.DecodingOptions(language="en", fp16=False, beam_size=3, sample_len=9)
    expected = whisper.decode(reference, torch.from_numpy(mel(0)), options)
    with Windows([0]) as windows:
        (found,) = drive([Decode(window=windows[0], language="en", beam_size=3, sample_len=9)])
    assert list(found.tokens) == expected.tokens
    assert found.avg_logprob == pytest.approx(expected.avg_logprob, abs=1e-3)


def test_samples_at_a_temperature() -> None:
    with Windows([0, 1]) as windows:
        hot = [Decode(window=window, language="en", temperature=1.0, best_of=3) for window in windows]
        found = drive([*hot, Decode(window=windows[0], language="en")])
    assert len({each.tokens for each in found}) == 3
    assert all(-5 < each.avg_logprob < 0 for each in found)


def test_detects_as_openai_whisper(reference: Any) -> None:
    _, expected = whisper.detect_language(reference, torch.from_numpy(mel(0)))
    with Windows([0, 1]) as windows:
        found, _ = drive([Detect(window=window) for window in windows])
    assert found == pytest.approx(expected, abs=1e-3)


def test_aligns_as_openai_whisper(reference: Any) -> None:
    from whisper.timing import find_alignment

    chosen = tokenizer_of(engine().info)
    with Windows([0, 1]) as windows:
        decoded = drive([Decode(window=window, language="en") for window in windows])
        texts = [tuple(token for token in each.tokens if token < chosen.eot) for each in decoded]
        found = drive(
            [
                Align(
                    window=window,
                    text_tokens=text,
                    language="en",
                    task="transcribe",
                    num_frames=500 - 100 * n,
                )
                for n, (window, text) in enumerate(zip(windows, texts, strict=True))
            ]
        )
    for number, alignment in enumerate(found):
        frames = 500 - 100 * number
        expected = find_alignment(
            reference, chosen, list(texts[number]), torch.from_numpy(mel(number)), frames
        )
        tokens, times = alignment.path()
        jumps = np.pad(np.diff(tokens), (1, 0), constant_values=1).astype(bool)
        starts = times[jumps] / 50
        first_tokens = np.cumsum([0, *(len(word.tokens) for word in expected)])[: len(expected)]
        wanted = [word.start for word in expected if word.word.strip()]
        assert [starts[index] for index in first_tokens][: len(wanted)] == pytest.approx(wanted, abs=0.041)
        assert len(alignment.token_probabilities) == len(texts[number])


@cache
def files() -> list[Any]:
    """Samples as int16: two clips, one that falls silent for a while, and a minute of speech."""
    clips = [samples_of(CLIPS / name) for name, _ in manifest()]
    with_a_gap = np.concatenate([clips[4], np.zeros(10 * 16000, np.int16), clips[5]])
    return [clips[0], clips[3], with_a_gap, np.concatenate(clips)]


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # in openai-whisper
@pytest.mark.parametrize(
    "asked",
    [
        {},  # the language is detected
        {"language": "en", "beam_size": 3, "patience": 2.0},
        {"language": "en", "condition_on_previous_text": False, "without_timestamps": True},
        {
            "language": "de",
            "task": "translate",
            "initial_prompt": "hello world",
            "carry_initial_prompt": True,
        },
        {"language": "en", "word_timestamps": True},
        {"language": "en", "word_timestamps": True, "hallucination_silence_threshold": 2.0},
        {"language": "en", "clip_timestamps": (1.0, 3.0, 3.5)},
    ],
    ids=lambda asked: "+".join(asked) or "detected",
)
def test_whole_files_as_openai_whisper(reference: Any, asked: dict[str, Any]) -> None:
    used = engine()
    options = Options(temperatures=(0.0,), **asked)
    told = transcribe_all(used, [(spectrogram(samples, 80), options) for samples in files()])
    assert not used._taken
    others = 0
    for samples, mine in zip(files(), told, strict=True):
        clips = list(asked.get("clip_timestamps", (0,)))
        expected = reference.transcribe(
            samples.astype(np.float32) / 32768,
            temperature=0.0,
            fp16=False,
            **{**asked, "clip_timestamps": clips},
        )
        assert mine.language.language == expected["language"]
        segments = expected["segments"]
        if [(s.seek, s.tokens) for s in mine.segments] != [(s["seek"], tuple(s["tokens"])) for s in segments]:
            others += 1
            continue
        for segment, wanted in zip(mine.segments, segments, strict=True):
            words, wanted_words = segment.words or (), wanted.get("words", [])
            times = [time for word in words for time in (word.start, word.end)]
            wanted_times = [float(word[end]) for word in wanted_words for end in ("start", "end")]
            assert [word.word for word in words] == [word["word"] for word in wanted_words]
            assert times == pytest.approx(wanted_times, abs=0.041)  # two of its frames
            assert (segment.start, segment.end) == pytest.approx((wanted["start"], wanted["end"]), abs=0.041)
    # Its sums have other last bits, and nobody sees how narrowly it decided: one file may say something else.
    assert others <= 1


def test_falls_back_to_the_next_temperature() -> None:
    used = engine()
    sounds = [spectrogram(samples, 80) for samples in files()]
    ladder = Options(language="en", temperatures=(0.0, 0.6))
    never_sure = replace(ladder, logprob_threshold=0.0, no_speech_threshold=None)
    told = transcribe_all(used, [(sound, never_sure) for sound in sounds])
    assert {segment.temperature for each in told for segment in each.segments} == {0.6}
    always_sure = replace(ladder, logprob_threshold=None, compression_ratio_threshold=None)
    told = transcribe_all(used, [(sound, always_sure) for sound in sounds])
    assert {segment.temperature for each in told for segment in each.segments} == {0.0}
    assert not used._taken


def test_cancelled_and_released_windows_make_room() -> None:
    used = engine()
    for ticket in range(used.windows + 2):
        used.submit(ticket, Encode(mel=mel(0)))
    used.cancel(used.windows + 1)
    used.cancel("unknown")
    windows: dict[Any, Window] = {}
    while used.busy():
        windows.update(used.step())
    assert sorted(windows) == list(range(used.windows))
    used.release(windows.pop(0))
    assert used.busy()
    while used.busy():
        windows.update(used.step())
    assert used.windows in windows
    waiting = Decode(window=windows[1], language="en")
    used.submit("decode", waiting)
    used.cancel("decode")
    assert not used.busy()
    for window in windows.values():
        used.release(window)


def test_a_text_waits_for_few_encoders_only() -> None:
    """Encoders go first, but never so many that a text already waiting is not decoded."""
    used = engine()
    with Windows([0]) as windows:
        used.submit("text", Decode(window=windows[0], language="en"))
        taken: list[Window] = []
        for ticket in range(used.windows - 1):
            used.submit(ticket, Encode(mel=mel(0)))
        done: dict[Any, Any] = {}
        while "text" not in done:
            done = dict(used.step())
            fresh = [window for ticket, window in done.items() if isinstance(ticket, int)]
            taken += fresh
            for window in fresh:
                used.submit(("more", id(window)), Decode(window=window, language="en"))
        assert len(taken) < used.windows - 1
        while used.busy():
            taken += [window for ticket, window in used.step() if isinstance(ticket, int)]
        for window in taken:
            used.release(window)


def test_what_is_cancelled_while_it_runs_is_answered_to_nobody() -> None:
    used = engine()
    caught = 0
    for _ in range(10):
        for ticket in range(3):
            used.submit(ticket, Encode(mel=mel(0)))
        before = dict(used.step())
        for ticket in range(3):
            used.cancel(ticket)
        # Nothing waits any more: if there is something to do, then a call runs.
        caught += used.busy()
        while used.busy():
            assert used.step() == []
        for window in before.values():
            used.release(window)
    assert caught, "no call was running when it was cancelled: this proves nothing"
    # All the room is there again.
    with Windows([0] * used.windows) as windows:
        assert len(windows) == used.windows


def test_keeps_what_it_converted_beside_the_weights(checkpoint_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    path.write_bytes(checkpoint_path.read_bytes())
    assert convert.preload(str(path), None).endswith("mine-ctranslate2")
    made = tmp_path / "mine-ctranslate2" / "model.bin"
    first = made.stat().st_mtime_ns
    assert convert.find(str(path), None, tmp_path / "scratch") == made.parent
    assert made.stat().st_mtime_ns == first
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["mine-ctranslate2", "mine.pt"]
    # A directory that is a model already needs no weights of openai-whisper's.
    path.unlink()
    assert load(replace(SETTINGS, model=str(made.parent))).info.n_mels == 80


def test_removes_what_a_conversion_that_was_killed_left_behind(checkpoint_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    path.write_bytes(checkpoint_path.read_bytes())
    convert.preload(str(path), None)
    two_days_ago = time.time() - 2 * 86400
    for name, inside, changed in (
        (".converting-killed", "fresh", two_days_ago),
        (".converting-swapping", "old", two_days_ago),
        (".converting-now", "fresh", time.time() - 3600),  # by another server on the same volume
        (".converting-photos", "2024", two_days_ago),  # nothing of ours
    ):
        (tmp_path / name / inside).mkdir(parents=True)
        (tmp_path / name / inside / "model.bin").write_bytes(b"half of it")
        os.utime(tmp_path / name, (changed, changed))
    convert.find(str(path), None, tmp_path / "scratch")
    left = [".converting-now", ".converting-photos", "mine-ctranslate2", "mine.pt"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == left


def test_refuses_what_it_cannot_load(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"no model\.bin in it"):
        load(replace(SETTINGS, model=str(tmp_path)))
    with pytest.raises(LoadError, match="no such file"):
        load(replace(SETTINGS, model=str(tmp_path / "absent.pt")))
    with pytest.raises(LoadError, match=r"WHISPER_DTYPE=float16: .*use auto or one of .*int8"):
        load(replace(SETTINGS, dtype="float16"))
    with pytest.raises(LoadError, match=r"CTranslate2 can't use CUDA: .*; NVIDIA driver here: "):
        load(replace(SETTINGS, device="cuda"))


def test_alignment_heads_go_along(tmp_path: Path) -> None:
    made = convert.find("demo", None, tmp_path)
    heads = [list(head) for head in load_checkpoint("demo", None).alignment_heads]
    assert json.loads((made / "config.json").read_text())["alignment_heads"] == heads


@contextmanager
def failing(problem: Exception, when: Callable[[Sequence[Decode]], bool]) -> Iterator[list[int]]:
    """Let those calls of `generate` fail of which `when` says so; yields how many windows the others had."""
    sizes: list[int] = []
    generate = FasterWhisper._decode

    def decode(self: FasterWhisper, requests: list[Decode]) -> list[Any]:
        if when(requests):
            raise problem
        sizes.append(len(requests))
        return generate(self, requests)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FasterWhisper, "_decode", decode)
        yield sizes


def answers_of(requests: Sequence[Request]) -> list[Any]:
    """As `drive`, but an answer may be an exception."""
    answers: dict[Any, Any] = {}
    for number, request in enumerate(requests):
        engine().submit(number, request)
    while engine().busy():
        answers |= engine().step()
    return [answers[number] for number in range(len(requests))]


def test_a_request_that_fails_fails_alone() -> None:
    """A call gives one answer or exception for all windows in it: nobody knows whose fault it is."""
    with Windows(range(4)) as windows:
        requests = [Decode(window=window, language="en", seed=n) for n, window in enumerate(windows)]
        expected = [each.tokens for each in drive(requests)]
        with failing(RuntimeError("a bad one"), lambda chosen: any(each.seed == 2 for each in chosen)):
            found = answers_of(requests)
        assert str(found[2]) == "a bad one"
        assert [found[n].tokens for n in (0, 1, 3)] == [expected[n] for n in (0, 1, 3)]
        with failing(RuntimeError(), lambda chosen: False) as sizes:  # and the next ones share a call again
            drive(requests)
        assert sizes == [4]


def test_what_no_call_can_be_made_of_is_answered_to_its_own_request() -> None:
    with Windows(range(2)) as windows:
        unknown = Decode(window=windows[0], language="xx")
        absent = Decode(window=windows[0], language="en", suppress_tokens=(99999,))
        fine = Decode(window=windows[1], language="en")
        found = answers_of([unknown, fine, absent])
        assert isinstance(found[0], ValueError)
        assert found[1].tokens == drive([fine])[0].tokens
        assert str(found[2]) == "suppress_tokens: there is no token 99999"
        engine().submit("gone", unknown)
        engine().cancel("gone")
        assert not engine().busy()


def test_calls_are_smaller_while_memory_is_scarce_and_larger_again_after_that() -> None:
    with Windows(range(8)) as windows:
        requests = [Decode(window=window, language="en") for window in windows]
        expected = [each.tokens for each in drive(requests)]
        scarce = RuntimeError("CUDA failed with error out of memory")
        with failing(scarce, lambda chosen: len(chosen) > 2) as sizes:
            assert [each.tokens for each in drive(requests)] == expected
        assert set(sizes) == {2}
        with failing(scarce, lambda chosen: False) as sizes:
            for _ in range(3 * EASING_CALLS):
                drive([replace(requests[0], sample_len=1)])
            sizes.clear()
            drive(requests)
        assert sizes == [8]


def test_a_request_that_finds_no_memory_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A neighbour may have it for a moment only; and nobody else waits for that."""
    monkeypatch.setattr("whisper_server.engine.ctranslate2.engine.pause_after", lambda tries: 0.1)
    with Windows(range(2)) as windows:
        short_of_it = Decode(window=windows[0], language="en", seed=1)
        fine = Decode(window=windows[1], language="en", temperature=0.2)
        expected = [each.tokens for each in drive([short_of_it])]
        tries = iter((True, True, True, False))
        with failing(
            MemoryError("std::bad_alloc"), lambda chosen: chosen[0].seed == 1 and next(tries)
        ) as sizes:
            found = answers_of([short_of_it, fine])
        assert [found[0].tokens] == expected
        assert found[1].tokens
        assert sizes[-1] == 1
        assert next(tries, None) is None
        with failing(MemoryError("std::bad_alloc"), lambda chosen: True):
            engine().submit("gone", short_of_it)
            while not engine()._later:
                engine().step()
            engine().cancel("gone")
            assert not engine().busy()


def test_others_share_calls_again_while_one_request_never_finds_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their calls become small when it fails first, and larger again before it was tried for the last time."""
    monkeypatch.setattr("whisper_server.engine.ctranslate2.engine.pause_after", lambda tries: 3600.0)
    monkeypatch.setattr("whisper_server.engine.ctranslate2.memory.EASING_CALLS", 6)
    used = engine()
    monkeypatch.setattr(used, "_memory", Pressure())
    with Windows(range(5)) as windows:
        never, *others = (
            Decode(window=window, language="en", seed=n, sample_len=4) for n, window in enumerate(windows)
        )
        with failing(MemoryError("std::bad_alloc"), lambda chosen: never in chosen) as sizes:
            used.submit("never", never)
            for _ in range(TRIES - 2):
                for number, request in enumerate(others):
                    used.submit(number, request)
                found: set[Any] = set()
                while len(found) < len(others) or not used._later:
                    found |= {ticket for ticket, _ in used.step()}
                assert found == set(range(len(others)))
                used._later = [(0.0, waiting, queue) for _, waiting, queue in used._later]
            used.cancel("never")
        assert 1 in sizes
        assert sizes[-1] == len(others)


def test_without_memory_for_one_window_its_request_fails_and_with_a_lost_device_all_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    def no_pause(tries: int) -> float:
        pauses.append(pause_after(tries))
        return 0.0

    monkeypatch.setattr("whisper_server.engine.ctranslate2.engine.pause_after", no_pause)
    with Windows([0]) as windows:
        request = Decode(window=windows[0], language="en")
        with failing(MemoryError("std::bad_alloc"), lambda chosen: True):
            assert isinstance(answers_of([request])[0], MemoryError)
        assert 7 < sum(pauses) < 9
        assert drive([request])[0].tokens
        lost = RuntimeError("CUDA failed with error an illegal memory access was encountered")
        with failing(lost, lambda chosen: True), pytest.raises(DeviceLost, match="an illegal memory access"):
            answers_of([request])
