"""What the server asks of an engine, whichever library does the work.

An engine is loaded and used by one thread only: Whisper implementations keep state on shared modules, and
two threads in one model silently mix their texts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16000
Samples = NDArray[np.int16]  # shape (n,), mono, SAMPLE_RATE per second


class LoadError(Exception):
    """The model can't be loaded. The message is one line that says what to do."""


class DeviceLost(Exception):
    """The device is in a state that only a new process gets out of."""


class Stopped(TimeoutError):
    """The work was given up because `stop` said so."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How one file is to be transcribed."""

    language: str | None = None  # a code such as "en"; None: detect
    task: str = "transcribe"
    prompt: str | None = None


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """What was said in one file."""

    text: str
    language: str  # a code: the one asked for, or the one detected


class Engine(Protocol):
    """One loaded model on one device."""

    description: str

    def transcribe(self, samples: Samples, options: Options, stop: Callable[[], bool]) -> Transcript:
        """Transcribe `samples`.

        `stop` is asked again and again during the work; once it is true, Stopped is raised. DeviceLost means
        that the engine is of no more use; any other exception concerns this file alone.
        """
