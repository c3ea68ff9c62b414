"""One file, from its spectrogram to its segments: openai-whisper's `transcribe`, told as a generator.

It reads like the loop it is equal to, and yields what it needs: a request to the engine, and is resumed with the answer; a window
that it is done with; segments that are final; other generators to be run side by side. Whoever drives it runs hundreds of these
at once. Nothing here computes with tensors or waits.
"""

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from whisper.audio import FRAMES_PER_SECOND, HOP_LENGTH, N_FRAMES, SAMPLE_RATE
from whisper.tokenizer import Tokenizer
from whisper.utils import compression_ratio

from whisper_server.audio.mel import Spectrogram
from whisper_server.engine.interface import Align, Decode, Decoded, Detect, Mel, ModelInfo, Window
from whisper_server.engine.tokens import tokenizer_of
from whisper_server.transcribe import hallucination, words
from whisper_server.transcribe.options import Options
from whisper_server.transcribe.segments import Cutter, cleared
from whisper_server.transcribe.tally import Tally
from whisper_server.transcribe.transcript import Segment

Clip = tuple[int, int]
"""First frame, and the one after the last; in frames of 10 ms."""


@dataclass(frozen=True)
class MelSegment:
    """A window to be encoded, cut from the spectrogram when the engine takes it: the windows of a file that wait side by side
    would hold it a second time. The answer is that of Encode."""

    cut: Callable[[], Mel]


@dataclass(frozen=True)
class Release:
    """The window is needed no more."""

    window: Window
    heard: float = 0.0
    """How many seconds of audio are done with it; 30 for the last one of a file, which is as much work."""


@dataclass(frozen=True)
class Final:
    """Segments of which nothing will change, in the order of the file. Their ids are still to be given."""

    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Gather:
    """Generators to run side by side; resumed when all of them are done."""

    parts: "Sequence[Work]"


Work = Generator[MelSegment | Decode | Detect | Align | Release | Final | Gather, Any, None]


@dataclass
class LanguageInfo:
    """What the caller learns beside segments: the language asked for, or the one detected; None before that."""

    language: str | None = None


def transcribe(
    sound: Spectrogram, info: ModelInfo, options: Options, found: LanguageInfo, tally: Tally
) -> Work:
    """Transcribe a file. `options.vad` is the caller's to carry out: by then, clip_timestamps are the spans with speech."""
    window: Window | None = None
    language = options.language or (None if info.is_multilingual else "en")
    if language is None:
        language, window = yield from _detect(sound, options)
    found.language = language
    clips = _clips(options.clip_timestamps, sound.frames)
    if options.parallel and len(clips) > 1:
        if window is not None:
            yield Release(window)
        apart = replace(options, condition_on_previous_text=False)
        yield Gather([_File(sound, info, apart, language, tally).transcribe([clip]) for clip in clips])
    else:
        yield from _File(sound, info, options, language, tally).transcribe(clips, window)


def _detect(
    sound: Spectrogram, options: Options
) -> Generator[MelSegment | Detect | Release, Any, tuple[str, Window | None]]:
    """The language, and the first window if it is the one that this was found out from."""
    start, end = _clips(options.clip_timestamps, sound.frames)[0]
    size = min(N_FRAMES, sound.frames - start, end - start)
    # openai-whisper detects in the first 30 s of the file, with silence behind a shorter one; where it decodes, there are zeros.
    same = start == 0 and size == N_FRAMES
    reusable = same or (options.fast_detection and size > 0)
    window = yield MelSegment(partial(sound.window, start, size) if reusable else sound.beginning)
    chances: dict[str, float] = yield Detect(window=window)
    language = max(chances, key=lambda code: chances[code])
    if not reusable:
        yield Release(window)
    return language, window if reusable else None


def _clips(timestamps: Sequence[float], frames: int) -> list[Clip]:
    points = [round(time * FRAMES_PER_SECOND) for time in timestamps] or [0]
    if len(points) % 2:
        points.append(frames)
    return list(zip(points[::2], points[1::2], strict=True))


class _File:
    """What is carried from window to window."""

    def __init__(
        self, sound: Spectrogram, info: ModelInfo, options: Options, language: str, tally: Tally
    ) -> None:
        self._tally = tally
        self._sound, self._info, self._options, self._language = sound, info, options, language
        self._tokenizer: Tokenizer = tokenizer_of(info, language, options.task)
        self._cutter = Cutter(self._tokenizer, N_FRAMES // info.n_audio_ctx)
        self._prompt = _encode(self._tokenizer, options.initial_prompt)
        self._tokens = list(self._prompt)
        """All so far, the prompt's first."""
        self._reset_at = 0
        """Tokens before this one are no prompt for the next window."""
        self._last_speech = 0.0
        """Seconds."""
        self._aligns = options.word_timestamps or options.hallucination_silence_threshold is not None

    def transcribe(self, clips: Sequence[Clip], window: Window | None = None) -> Work:
        """Window after window. `window` is the first one, if it has been encoded already."""
        windows = 0
        for start, end in clips:
            seek = start
            while seek < min(end, self._sound.frames):
                size = min(N_FRAMES, self._sound.frames - seek, end - seek)
                if window is None:
                    window = yield MelSegment(partial(self._sound.window, seek, size))
                result, temperature = yield from self._decode_with_fallback(window, windows)
                segments, after = yield from self._read(result, temperature, window, seek, size)
                # A window that ends where it began would be heard for ever.
                after = after if after > seek else seek + size
                self._tally.window()
                yield Release(window, (after - seek if size == N_FRAMES else N_FRAMES) / FRAMES_PER_SECOND)
                window = None
                if segments is not None:
                    self._remember(segments, temperature)
                if segments:
                    yield Final(tuple(segments))
                seek = after
                windows += 1

    def _decode_with_fallback(
        self, window: Window, number: int
    ) -> Generator[Decode, Any, tuple[Decoded, float]]:
        """Try one temperature after the other until the text is good enough."""
        options = self._options
        for attempt, temperature in enumerate(options.temperatures):
            cold = temperature == 0
            result: Decoded = yield Decode(
                window=window,
                language=self._language,
                task=options.task,
                prompt=self._prompt_now(),
                temperature=temperature,
                beam_size=options.beam_size if cold else None,
                patience=options.patience if cold else None,
                best_of=None if cold else options.best_of,
                length_penalty=options.length_penalty,
                suppress_tokens=options.suppress_tokens,
                without_timestamps=options.without_timestamps,
                seed=noise_seed(options.seed, number, attempt),
            )
            failed = self._failed_threshold(result)
            last = failed is None or attempt == len(options.temperatures) - 1
            self._tally.attempt(len(result.tokens), None if last else failed)
            if last:
                break
        if math.isnan(result.avg_logprob):  # its tokens say nothing either
            raise ArithmeticError(
                "the model's probabilities are not numbers; with another WHISPER_DTYPE, such as float32, they may be"
            )
        return result, temperature

    def _failed_threshold(self, result: Decoded) -> str | None:
        """The threshold for which a text is not good enough; None if it is, or if the window is silent."""
        options = self._options
        # What is no number is not good enough.
        unlikely = options.logprob_threshold is not None and not (
            result.avg_logprob >= options.logprob_threshold
        )
        silent = (
            options.no_speech_threshold is not None and result.no_speech_prob > options.no_speech_threshold
        )
        if unlikely and silent:
            return None
        if unlikely:
            return "logprob"
        text = self._tokenizer.decode(list(result.tokens)).strip()
        threshold = options.compression_ratio_threshold
        repetitive = threshold is not None and compression_ratio(text) > threshold
        return "compression_ratio" if repetitive else None

    def _prompt_now(self) -> list[int]:
        if not self._options.carry_initial_prompt:
            return self._tokens[self._reset_at :]
        room = self._info.n_text_ctx // 2 - 1 - len(self._prompt)
        ignored = max(len(self._prompt), self._reset_at)
        return self._prompt + self._tokens[ignored:][-room:]

    def _read(
        self, result: Decoded, temperature: float, window: Window, seek: int, size: int
    ) -> Generator[Any, Any, tuple[list[Segment] | None, int]]:
        """A window's segments, None if it is skipped, and where the next window begins."""
        if self._is_silence(result):
            return None, seek + size
        cut = self._cutter.cut(result, temperature, seek, size)
        segments, after = cut.segments, cut.after
        if self._aligns:
            aligned, after = yield from self._align(segments, window, seek, size, after, ended=cut.ended)
            if aligned is None:
                return None, after
            segments = aligned
        return [cleared(segment) for segment in segments], after

    def _is_silence(self, result: Decoded) -> bool:
        options = self._options
        if options.no_speech_threshold is None or result.no_speech_prob <= options.no_speech_threshold:
            return False
        # Words that are likely enough count as speech all the same.
        return options.logprob_threshold is None or result.avg_logprob <= options.logprob_threshold

    def _align(
        self, segments: list[Segment], window: Window, seek: int, size: int, after: int, *, ended: bool
    ) -> Generator[Any, Any, tuple[list[Segment] | None, int]]:
        """Give each word its times, and doubt words that are surrounded by silence."""
        segments = yield from words.timed(
            segments,
            tokenizer=self._tokenizer,
            window=window,
            language=self._language,
            task=self._options.task,
            num_frames=size,
            last_speech=self._last_speech,
        )
        offset = seek * HOP_LENGTH / SAMPLE_RATE
        last_word = words.end_of(segments)
        if not ended and last_word is not None and last_word > offset:
            after = round(last_word * FRAMES_PER_SECOND)
        threshold = self._options.hallucination_silence_threshold
        if threshold is not None:
            place = hallucination.Place(
                seek=seek,
                size=size,
                frames=self._sound.frames,
                last_speech=self._last_speech,
                ended=ended,
                threshold=threshold,
            )
            skipped = hallucination.skip_leading_silence(segments, place)
            if skipped is not None:
                return None, skipped
            segments, after = hallucination.without(segments, place, after)
        last_word = words.end_of(segments)
        if last_word is not None:
            self._last_speech = last_word
        return segments, after

    def _remember(self, segments: Sequence[Segment], temperature: float) -> None:
        self._tokens += [token for segment in segments for token in segment.tokens]
        if not self._options.condition_on_previous_text or temperature > 0.5:
            self._reset_at = len(self._tokens)


def noise_seed(seed: int, window: int, attempt: int) -> int:
    """What the noise of one attempt at one window is made from: not what else is being decoded."""
    return ((seed * 1_000_003 + window) * 64 + attempt) % (1 << 63)


def _encode(tokenizer: Tokenizer, prompt: str | None) -> list[int]:
    if prompt is None:
        return []
    # As plain text: the tokenizer refuses control tokens, such as <|endoftext|>.
    tokens: list[int] = tokenizer.encoding.encode(" " + prompt.strip(), disallowed_special=())
    return tokens
