"""An engine of CTranslate2 with the demo's model, driven without threads."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from whisper.audio import N_FRAMES, load_audio, log_mel_spectrogram, pad_or_trim
from whisper_server.config import Settings
from whisper_server.engine.ctranslate2.engine import FasterWhisper, Window
from whisper_server.engine.ctranslate2.load import load
from whisper_server.engine.interface import Encode, Request

CLIPS = Path(__file__).parent / "clips"
SETTINGS = replace(Settings(), model="demo", engine="faster-whisper", device="cpu", dtype="float32")


@cache
def engine(dtype: str = "float32") -> FasterWhisper:
    return load(replace(SETTINGS, dtype=dtype))


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
