"""Training windows: phrases with pauses and noise, and the tokens that Whisper should answer."""

import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import whisper.audio
from numpy.typing import NDArray
from torch import Tensor
from whisper.audio import HOP_LENGTH, N_FFT
from whisper.tokenizer import get_tokenizer

RATE = 16000
FRAMES = 50  # encoder frames, and timestamp tokens, a second
SHORT = 24000  # samples; two-second windows are filled from phrases shorter than this
IGNORED = -100  # a label that costs nothing

Clip = tuple[str, NDArray[np.float16]]
Guide = tuple[float, float] | None  # seconds within which a token's attention belongs
TOKENIZER = get_tokenizer(True, num_languages=99, language="en", task="transcribe")
FIRST_TIMESTAMP: int = TOKENIZER.timestamp_begin
ENGLISH: int = TOKENIZER.to_language_token("en")


class Spoken(NamedTuple):
    """A phrase in a window: seconds from its start, and whether all of it fits in."""

    start: float
    end: float
    text: str
    whole: bool


class Sample(NamedTuple):
    """One window: samples, tokens before and from SOT, what CTC should find, where tokens should look."""

    samples: NDArray[np.float32]
    prompt: list[int]
    tokens: list[int]
    heard: list[int] | None
    guides: list[Guide]


class Batch(NamedTuple):
    """Mels (B, 80, frames), inputs and labels (B, T) as indices of the used vocabulary, and the helpers."""

    mels: Tensor
    inputs: Tensor
    labels: Tensor
    heard: list[list[int] | None]
    guides: list[list[Guide]]


class Windows:
    """Makes training windows: phrases with pauses and noise, and the tokens that Whisper should answer."""

    def __init__(self, clips: Sequence[Clip], rng: random.Random) -> None:
        self._rng = rng
        self._clips = clips
        self._short = [clip for clip in clips if len(clip[1]) < SHORT]
        self.words = sorted({token for text, _ in clips for token in _encode(text)})
        special = [TOKENIZER.sot, TOKENIZER.eot, TOKENIZER.transcribe, TOKENIZER.no_speech]
        special += [TOKENIZER.no_timestamps, TOKENIZER.sot_prev, ENGLISH]
        # The rows of the vocabulary that are trained at all; the others stay zero.
        self.used = self.words + special + list(range(FIRST_TIMESTAMP, FIRST_TIMESTAMP + 1501))
        self._index = {token: index for index, token in enumerate(self.used)}
        self._filters = whisper.audio.mel_filters("cpu", 80)
        self._hann = torch.hann_window(N_FFT)

    def batch(self, size: int, seconds: int) -> Batch:
        """Return `size` windows of `seconds`."""
        samples = [self._sample(seconds) for _ in range(size)]
        longest = max(len(sample.prompt) + len(sample.tokens) for sample in samples)
        inputs = torch.full((size, longest - 1), self._index[TOKENIZER.eot])
        labels = torch.full((size, longest - 1), IGNORED)
        for row, sample in enumerate(samples):
            indices = [self._index[token] for token in sample.prompt + sample.tokens]
            length, prompt = len(indices) - 1, len(sample.prompt)
            inputs[row, :length] = torch.tensor(indices[:-1])
            labels[row, :length] = torch.tensor(indices[1:])
            labels[row, :prompt] = IGNORED
        mels = self._mels(torch.from_numpy(np.stack([sample.samples for sample in samples])))
        return Batch(mels, inputs, labels, [s.heard for s in samples], [s.guides for s in samples])

    def _mels(self, samples: Tensor) -> Tensor:
        spectrum = torch.stft(samples, N_FFT, HOP_LENGTH, window=self._hann, return_complex=True)
        mels = self._filters @ (spectrum[..., :-1].abs() ** 2)
        logs = torch.clamp(mels, min=1e-10).log10()
        logs = torch.maximum(logs, logs.amax(dim=(1, 2), keepdim=True) - 8.0)
        return (logs + 4) / 4

    def _sample(self, seconds: int) -> Sample:
        samples, spoken = self._speech(seconds)
        tokens, guides = self._answer(spoken, seconds)
        prompt = self._prompt() if spoken and self._rng.random() < 0.75 else []
        heard = None
        if all(phrase.whole for phrase in spoken):
            heard = [self._index[token] for phrase in spoken for token in _encode(phrase.text)]
        return Sample(samples, prompt, tokens, heard, [*[None] * len(prompt), *guides])

    def _speech(self, seconds: int) -> tuple[NDArray[np.float32], list[Spoken]]:
        rng = self._rng
        size = seconds * RATE
        noise = 10 ** rng.uniform(-5, -2.3)
        samples: NDArray[np.float32] = np.random.randn(size).astype(np.float32) * np.float32(noise)
        kind = rng.random()
        if rng.random() < 0.85:
            position = rng.uniform(0, 0.4) if seconds == 2 else rng.uniform(0, 1.5)
        else:
            position = rng.uniform(0, seconds * 0.8)
        most = 99 if rng.random() < 0.65 else rng.randint(1, max(1, seconds // 3))
        if kind < 0.06:
            most = 0  # silence
        spoken: list[Spoken] = []
        while len(spoken) < most:
            text, clip = rng.choice(self._clips if seconds > 2 else self._short)
            voice = clip.astype(np.float32) * rng.uniform(0.3, 1.2)
            start = int(position * RATE)
            if start >= size - 1600:
                break
            end = min(size, start + len(voice))
            samples[start:end] += voice[: end - start]
            finish = (start + len(voice)) / RATE
            spoken.append(Spoken(position, finish, text, start + len(voice) <= size))
            position = finish + rng.uniform(0.1, 1.2 if rng.random() < 0.9 else 5)
        return samples, spoken

    def _answer(self, spoken: list[Spoken], seconds: int) -> tuple[list[int], list[Guide]]:
        """Return the tokens from SOT to EOT, and for each where it should look."""
        if not spoken:
            return [TOKENIZER.sot, TOKENIZER.no_speech, TOKENIZER.eot], [None] * 3
        tokens = [TOKENIZER.sot, ENGLISH, TOKENIZER.transcribe]
        guides: list[Guide] = [None] * 3
        if self._rng.random() < 0.25:
            tokens.append(TOKENIZER.no_timestamps)
            guides.append(None)
            if not spoken[-1].whole and len(spoken) > 1:
                spoken.pop()
            for phrase in spoken:
                tokens += _encode(phrase.text)
                guides += _word_guides(phrase)
        else:
            for phrase in spoken:
                tokens.append(_timestamp(phrase.start, seconds))
                guides.append((phrase.start - 0.1, phrase.start + 0.2))
                if phrase.whole:
                    tokens += [*_encode(phrase.text), _timestamp(phrase.end, seconds)]
                    guides += [*_word_guides(phrase), (phrase.end - 0.2, phrase.end + 0.1)]
        return [*tokens, TOKENIZER.eot], [*guides, None]

    def _prompt(self) -> list[int]:
        """What transcribe() carries over: earlier segments, mostly with timestamps, up to 223 tokens."""
        rng = self._rng
        wanted = rng.randint(1, 223) if rng.random() < 0.8 else 223
        with_timestamps = rng.random() < 0.75
        position = rng.uniform(0, 1.5)
        tokens: list[int] = []
        while len(tokens) < wanted:
            text, clip = rng.choice(self._clips)
            end = position + len(clip) / RATE
            if end > 29:
                position = rng.uniform(0, 1)
                end = position + len(clip) / RATE
            words = _encode(text)
            if with_timestamps:
                words = [FIRST_TIMESTAMP + int(position * 50), *words, FIRST_TIMESTAMP + int(end * 50)]
            tokens += words
            position = end + rng.uniform(0.1, 1.2)
        return [TOKENIZER.sot_prev, *tokens[-223:]]


def _encode(text: str) -> list[int]:
    return list(TOKENIZER.encode(" " + text))


def _timestamp(seconds: float, limit: int) -> int:
    return FIRST_TIMESTAMP + min(round(seconds / 0.02), limit * 50)


def _word_guides(phrase: Spoken) -> list[Guide]:
    """Guess each word's time by its share of the characters, loosely; a guide for each token."""
    seconds = phrase.end - phrase.start
    total = len(phrase.text) + 1
    position = 0
    guides: list[Guide] = []
    for word in phrase.text.split(" "):
        start = phrase.start + seconds * position / total
        position += len(word) + 1
        end = phrase.start + seconds * position / total
        guides += [(start - 0.08, end + 0.08)] * len(_encode(word))
    tokens = _encode(phrase.text)
    return guides if len(guides) == len(tokens) else [(phrase.start, phrase.end)] * len(tokens)
