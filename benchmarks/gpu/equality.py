"""Whether what comes out is what openai-whisper says on the same device: token for token, on the demo model.

In float32 that is promised; in float16 it is seen how often it is so. Sampling is given the same noise on both sides.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import whisper
from whisper_server.audio.mel import spectrogram
from whisper_server.engine.interface import Samples
from whisper_server.transcribe.loop import noise_seed
from whisper_server.transcribe.options import Options

from benchmarks.gpu import driving, material
from benchmarks.gpu.material import Setup

ASKED: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampled": {"temperature": 0.8},
    "best of 3": {"temperature": 0.8, "best_of": 3},
    "beams": {"beam_size": 5, "patience": 2.0},
    "words": {"word_timestamps": True},
}


def run(setup: Setup, note: Callable[[str, Any], None]) -> None:
    """Note how many files were equal, for each precision and way of decoding."""
    sounds = [material.samples_of(path) for path in material.short_ones(setup)][: setup.some(1, 16)]
    sounds += [material.long_one(setup)][: setup.some(0, 1)]
    checkpoint = setup.checkpoint()
    reference = whisper.load_model(str(setup.model), device=setup.device)
    for dtype in setup.dtypes:
        engine = driving.make(checkpoint, dtype, setup.device, windows=8)
        for name, asked in ASKED.items():
            files = [(spectrogram(sound, engine.info.n_mels), _options(asked)) for sound in sounds]
            found = driving.run(engine, files)
            expected = [_reference(reference, sound, asked, dtype == "float16") for sound in sounds]
            mine = [[(s.seek, s.tokens, _words(s)) for s in segments] for segments in found.segments]
            note(f"{dtype} {name}", _compared(mine, expected) | {"lost": found.problems})


def _options(asked: dict[str, Any]) -> Options:
    rest = {name: value for name, value in asked.items() if name != "temperature"}
    return Options(language="en", temperatures=(asked.get("temperature", 0.0),), **rest)


def _compared(mine: list[Any], expected: list[Any]) -> dict[str, Any]:
    differing = [number for number, pair in enumerate(zip(mine, expected, strict=True)) if pair[0] != pair[1]]
    return {"files": len(expected), "equal": len(expected) - len(differing), "differing": differing}


def _reference(model: Any, samples: Samples, asked: dict[str, Any], fp16: bool) -> list[Any]:
    windows = itertools.count()

    def decode(*arguments: Any) -> Any:
        torch.manual_seed(noise_seed(0, next(windows), 0))
        return whisper.decode(model, *arguments)

    model.decode = decode
    asked = {"temperature": 0.0, **asked}
    audio = samples.astype(np.float32) / 32768
    found = model.transcribe(audio, language="en", fp16=fp16, **asked)
    return [(s["seek"], tuple(s["tokens"]), _words_of(s)) for s in found["segments"]]


def _words(segment: Any) -> list[tuple[str, float, float]]:
    return [(word.word, round(word.start, 2), round(word.end, 2)) for word in segment.words or ()]


def _words_of(segment: dict[str, Any]) -> list[tuple[str, float, float]]:
    return [
        (word["word"], round(float(word["start"]), 2), round(float(word["end"]), 2))
        for word in segment.get("words", [])
    ]
