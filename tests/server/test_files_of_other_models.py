"""Whole files of models with other vocabularies, and texts that are tried again, against openai-whisper's transcribe()."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import whisper
from whisper_server.audio.mel import spectrogram
from whisper_server.engine.checkpoint import load_checkpoint
from whisper_server.engine.torch.load import make_engine, model_info
from whisper_server.transcribe.loop import noise_seed
from whisper_server.transcribe.options import FALLBACK_TEMPERATURES, Options

from tests.server.driving import recorded_margin, reference_model, transcribe_all
from tests.server.test_equality_with_openai_whisper import FILES, LONG, MODELS, SHAPES, assert_equal

pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("asked", [{}, {"word_timestamps": True}], ids=["segments", "words"])
@pytest.mark.parametrize("number", range(len(MODELS)), ids=[f"{shape.n_vocab} tokens" for shape in SHAPES])
def test_models_of_each_vocabulary_transcribe_as_openai_whisper(
    monkeypatch: pytest.MonkeyPatch, number: int, asked: dict[str, Any]
) -> None:
    """English only, which has no languages and other control tokens, multilingual, and with a hundredth language. The language is
    detected where there is one to detect."""
    checkpoint = MODELS[number]
    info = model_info("random", checkpoint)
    engine = make_engine(checkpoint, info, torch.float32, "cpu", windows=3)
    files = [FILES[0], LONG[: 31 * 16000], FILES[0][:100]]
    options = Options(temperatures=(0.0,), **asked)
    told = transcribe_all(engine, [(spectrogram(samples, info.n_mels), options) for samples in files])
    reference, compared = reference_model(checkpoint), 0
    for samples, mine in zip(files, told, strict=True):
        with recorded_margin(monkeypatch) as margin:
            expected = reference.transcribe(
                samples.astype(np.float32) / 32768, temperature=0.0, fp16=False, **asked
            )
        assert mine.language.language == expected["language"]
        assert info.is_multilingual or expected["language"] == "en"
        if margin.is_clear:
            compared += 1
            assert_equal(mine, expected["segments"])
    assert compared >= len(files) // 2, "random weights are unsure of many tokens, but not of most files"


class _WithNoise:
    """openai-whisper's decode, each attempt at a window with the noise that ours has for it."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._windows = itertools.count()
        self._window = 0
        self.tried: list[float] = []

    def __call__(self, mel: Any, options: Any) -> Any:
        if options.temperature == 0:
            self._window = next(self._windows)
        self.tried.append(options.temperature)
        torch.manual_seed(noise_seed(0, self._window, FALLBACK_TEMPERATURES.index(options.temperature)))
        return whisper.decode(self._model, mel, options)


def test_texts_are_tried_again_as_openai_whisper_tries_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same noise, the same texts fail, and at the same temperature one is good enough."""
    demo = load_checkpoint("demo", None)
    info = model_info("demo", demo)
    engine = make_engine(demo, info, torch.float32, "cpu", windows=3)
    # Some cut in the middle of a word, so that the model is unsure.
    files = [*FILES[:2], *(samples[: 16000 + 700 * number] for number, samples in enumerate(FILES[:4]))]
    asked: dict[str, Any] = {"language": "en", "logprob_threshold": -0.4, "no_speech_threshold": None}
    told = transcribe_all(
        engine, [(spectrogram(samples, info.n_mels), Options(best_of=2, **asked)) for samples in files]
    )
    tried: list[float] = []
    for samples, mine in zip(files, told, strict=True):
        reference = reference_model(demo)
        noise = _WithNoise(reference)
        monkeypatch.setattr(reference, "decode", noise)
        expected = reference.transcribe(
            samples.astype(np.float32) / 32768,
            temperature=FALLBACK_TEMPERATURES,
            best_of=2,
            fp16=False,
            **asked,
        )
        assert_equal(mine, expected["segments"])
        again = sum(temperature > 0 for temperature in noise.tried)
        assert mine.tally.fallbacks.total() == again
        assert mine.tally.windows == len(noise.tried) - again
        tried += [segment["temperature"] for segment in expected["segments"]]
    assert 0.0 in tried, "some were good enough at once"
    assert any(temperature > 0 for temperature in tried), "and some were not"
