"""What the GPU is given to do: models that cost what official ones do, and recordings of speech."""

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from demo_model.widen import SHAPES, widen
from whisper.audio import SAMPLE_RATE, load_audio
from whisper_server.engine.checkpoint import Checkpoint, demo_checkpoint, load_checkpoint
from whisper_server.engine.interface import Samples

from benchmarks.server import speech

FULL_SECONDS = 28.75
"""Of a recording that fills a window, but for a pause at its end."""


@dataclass(frozen=True)
class Setup:
    """What is measured, and how much of it."""

    device: str
    shape: str
    """Of the model: demo, or one of the official sizes that the demo's weights are widened to."""
    folder: Path
    """Where `make` has put its files."""
    quick: bool
    """Whether to do a little of everything, as a test of the benchmark itself."""

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Precisions, the one that a server takes first."""
        return ("float16", "float32") if self.device == "cuda" else ("float32",)

    @property
    def model(self) -> Path:
        """openai-whisper's file."""
        return self.folder / f"{self.shape}.pt"

    def checkpoint(self) -> Checkpoint:
        """Its content."""
        return load_checkpoint(str(self.model), None)

    def some(self, few: int, many: int) -> int:
        """How many of something."""
        return few if self.quick else many


def make(setup: Setup) -> None:
    """Write the model, and with the demo's the recordings."""
    if setup.shape == "demo":
        setup.model.write_bytes(demo_checkpoint())
        speech.short_ones(16, setup.folder)
        speech.long_one(2, setup.folder)
    else:
        small = torch.load(io.BytesIO(demo_checkpoint()), map_location="cpu", weights_only=True)
        torch.save(widen(small, SHAPES[setup.shape]), setup.model)


def short_ones(setup: Setup) -> list[Path]:
    """Recordings of 4 to 12 seconds."""
    return sorted(setup.folder.glob("short-*.flac"))


@cache
def samples_of(path: Path) -> Samples:
    """A recording as the server takes it."""
    samples: Samples = (load_audio(str(path)) * 32768).round().clip(-32768, 32767).astype(np.int16)
    return samples


def long_one(setup: Setup) -> Samples:
    """Two minutes."""
    return samples_of(setup.folder / "long.flac")


def full_windows(setup: Setup) -> list[Samples]:
    """Recordings that fill a window."""
    samples, size = long_one(setup), int(FULL_SECONDS * SAMPLE_RATE)
    return [samples[first : first + size] for first in range(0, len(samples) - size + 1, size)]
