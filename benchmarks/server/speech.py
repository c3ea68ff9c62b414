"""What the servers are given to transcribe: recordings of the test suite, trimmed and joined with pauses."""

import csv
import random
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from whisper.audio import SAMPLE_RATE, load_audio

CLIPS = Path(__file__).parents[2] / "tests" / "server" / "clips"
PAUSE = (0.3, 0.9)
"""Seconds between two recordings."""


class Recording(NamedTuple):
    """A file, what is said in it, and its length in seconds."""

    path: Path
    text: str
    seconds: float


def short_ones(count: int, folder: Path) -> list[Recording]:
    """Recordings of 4 to 12 seconds."""
    rng = random.Random(1)
    return [_write(folder / f"short-{number:02}.flac", rng, rng.uniform(3.5, 9.0)) for number in range(count)]


def long_one(minutes: float, folder: Path) -> Recording:
    """One recording of that length, or just over it."""
    return _write(folder / "long.flac", random.Random(2), minutes * 60)


def _write(path: Path, rng: random.Random, at_least: float) -> Recording:
    parts: list[NDArray[np.float32]] = []
    texts: list[str] = []
    noise = np.random.default_rng(rng.getrandbits(32))
    while sum(map(len, parts)) < at_least * SAMPLE_RATE:
        text, samples = rng.choice(_SPOKEN)
        pause = np.zeros(int(rng.uniform(*PAUSE) * SAMPLE_RATE), np.float32)
        parts += [samples, pause]
        texts.append(text)
    joined = np.concatenate(parts)
    joined += noise.normal(0, 10 ** (-75 / 20), len(joined)).astype(np.float32)
    pcm = (np.clip(joined, -1, 1) * 32767).astype("<i2").tobytes()
    command = ["ffmpeg", "-v", "error", "-y", "-f", "s16le", "-ar", str(SAMPLE_RATE), "-ac", "1", "-i", "-"]
    subprocess.run([*command, str(path)], input=pcm, check=True)
    return Recording(path, " ".join(texts), len(joined) / SAMPLE_RATE)


def _spoken() -> list[tuple[str, NDArray[np.float32]]]:
    with (CLIPS / "manifest.tsv").open() as manifest:
        rows = list(csv.DictReader(manifest, delimiter="\t"))
    found = []
    for row in rows:
        samples = load_audio(str(CLIPS / row["file"]))
        loud = np.flatnonzero(np.abs(samples) > 0.01)
        found.append((row["text"], samples[max(0, loud[0] - 800) : loud[-1] + 1600]))
    return found


_SPOKEN = _spoken()
