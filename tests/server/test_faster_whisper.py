"""The engine on CTranslate2, driven directly, against openai-whisper on the same weights."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import torch
import whisper
from whisper_server.audio.mel import spectrogram
from whisper_server.engine.checkpoint import demo_checkpoint, load_checkpoint
from whisper_server.engine.ctranslate2 import convert
from whisper_server.engine.ctranslate2.engine import Window
from whisper_server.engine.ctranslate2.load import load
from whisper_server.engine.interface import Align, Decode, Detect, Encode, LoadError, Request
from whisper_server.engine.tokens import tokenizer_of
from whisper_server.transcribe.options import Options

from tests.server.driving import samples_of, transcribe_all
from tests.server.faster_whisper import CLIPS, SETTINGS, Windows, drive, engine, manifest, mel


@pytest.fixture(scope="module")
def checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's weights, as a file of openai-whisper's."""
    path = tmp_path_factory.mktemp("weights") / "demo.pt"
    path.write_bytes(demo_checkpoint())
    return path


@pytest.fixture(scope="module")
def reference(checkpoint_path: Path) -> Any:
    return whisper.load_model(str(checkpoint_path), device="cpu")


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
