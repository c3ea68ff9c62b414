"""What the server asks of an engine, whichever library does the work.

An engine knows nothing of files. It is asked four things about windows of 30 seconds, each a small record: Encode gives a Window,
and Detect, Decode and Align work on one. Requests about many windows are under way at once, and each `step` advances all of them
together: that is where batching across requests happens. A Window holds memory of the device until it is released, and the
number of them is bounded: an Encode waits inside the engine until there is room.

All of an engine runs in one thread, the device thread.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from whisper_server.languages import NAMES

SAMPLE_RATE = 16000
Samples = NDArray[np.int16]
"""Shape (n,), mono, SAMPLE_RATE per second."""
Mel = NDArray[np.float32]
"""Log-mel spectrogram, shape (n_mels, frames), 100 frames a second."""


class LoadError(Exception):
    """The model can't be loaded. The message is one line that says what to do."""


class DeviceLost(Exception):
    """The device is in a state that only a new process gets out of."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What those who prepare requests have to know of the loaded model."""

    name: str
    n_mels: int
    n_audio_ctx: int
    n_text_ctx: int
    is_multilingual: bool
    num_languages: int
    is_turbo: bool = False
    """Whether it has lost most of its decoder's layers, and with them the knowledge of how to translate."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that it knows."""
        return tuple(NAMES)[: self.num_languages] if self.is_multilingual else ("en",)

    @property
    def translates(self) -> bool:
        """Whether it was trained to translate into English."""
        return self.is_multilingual and not self.is_turbo


Window = Any
"""An engine's own handle of one encoded window."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Encode:
    """Run the encoder; the answer is a Window."""

    mel: Mel
    """Shape (n_mels, 3000), padded with zeros."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Detect:
    """Which language is spoken; the answer is a dict of language code to probability."""

    window: Window


@dataclass(frozen=True, kw_only=True, eq=False)
class Decode:
    """Find the text of a window; the answer is Decoded. Fields as in openai-whisper's DecodingOptions."""

    window: Window
    language: str
    task: str = "transcribe"
    prompt: Sequence[int] = ()
    """Tokens of the text before; the engine keeps the last n_text_ctx // 2 - 1."""
    temperature: float = 0.0
    beam_size: int | None = None
    patience: float | None = None
    best_of: int | None = None
    length_penalty: float | None = None
    suppress_tokens: tuple[int, ...] = (-1,)
    without_timestamps: bool = False
    max_initial_timestamp: float | None = 1.0
    sample_len: int | None = None
    """Most tokens to sample; None: n_text_ctx // 2."""
    seed: int = 0
    """Of the noise at temperatures above 0: the text depends on it and on nothing else in the batch."""

    @property
    def rows(self) -> int:
        """How many sequences are followed side by side: beams at temperature 0, else samples to choose from."""
        return (self.best_of if self.temperature > 0 else self.beam_size) or 1


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """The best sequence of a Decode."""

    tokens: tuple[int, ...]
    """Sampled ones, without the end of text."""
    token_logprobs: tuple[float, ...] | None = None
    """Log-probability of each of `tokens` among those that were allowed; None where the engine can't tell."""
    avg_logprob: float
    no_speech_prob: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Align:
    """When each token of a window's text was spoken; the answer is an Alignment."""

    window: Window
    text_tokens: tuple[int, ...]
    """Not empty, none of them special."""
    language: str
    task: str
    num_frames: int
    """How much of the window is speech, in frames of 10 ms; the rest is padding."""


class Alignment(Protocol):
    """What an Align found out. Its methods are called outside the device thread, so that the work in them delays no other row."""

    @property
    def token_probabilities(self) -> Sequence[float]:
        """One for each text token."""

    def path(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Dynamic time warping's path: indices of text tokens (the end of text is the last), and of frames of 20 ms."""


Request = Encode | Detect | Decode | Align
Ticket = Hashable
Answer = Any
"""What the request's docstring says, or an Exception that concerns this request alone."""


@dataclass(kw_only=True)
class Stats:
    """What an engine has done since it was loaded, and what it holds now. The device thread writes it, any thread may read it."""

    rounds: int = 0
    """Passes of any kind that have ended, empty ones not counted: as long as it grows, the device lives."""
    encoded: int = 0
    """Windows."""
    encode_seconds: float = 0.0
    """Of the encoder's passes; on a GPU, which goes on by itself, what it took to tell it: it is waited for in `step_seconds`."""
    steps: int = 0
    """Passes of the decoder, each a token for every row; where a call does whole texts, calls."""
    step_rows: int = 0
    """Rows in all of those steps together."""
    step_seconds: float = 0.0
    """Of those steps, prompts included."""
    windows_taken: int = 0
    """Windows that are not released yet."""
    out_of_memory: int = 0
    """How often there was not enough of the device's memory for a pass."""
    memory_bytes: int = 0
    """Of the device, that the engine holds; 0 where that is not known."""


class Engine(Protocol):
    """One loaded model on one device. For one thread only."""

    description: str
    """For the log: model, device, precision."""
    info: ModelInfo
    stats: Stats

    @property
    def windows(self) -> int:
        """How many Windows there can be at once."""

    @property
    def decoded_at_once(self) -> int:
        """How many of them are decoded at the same time at most; the others wait."""

    def submit(self, ticket: Ticket, request: Request) -> None:
        """Take a request in; its answer comes from a later `step`, under the same ticket."""

    def cancel(self, ticket: Ticket) -> None:
        """Forget a request whose answer nobody waits for; unknown tickets are fine. A Window that it would have made is freed."""

    def release(self, window: Window) -> None:
        """Free a Window. No request on it may be under way."""

    def busy(self) -> bool:
        """Whether `step` has anything to do. False while only Encodes wait that have no room."""

    def step(self) -> list[tuple[Ticket, Answer]]:
        """Advance all requests by one round, which takes milliseconds (an encoder's run, a token for each row); what is done.

        Raises DeviceLost when the engine is of no more use.
        """
