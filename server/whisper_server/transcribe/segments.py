"""From a window's tokens to segments: cut at the timestamps among them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from whisper.audio import HOP_LENGTH, SAMPLE_RATE
from whisper.tokenizer import Tokenizer
from whisper.utils import compression_ratio

from whisper_server.engine.interface import Decoded
from whisper_server.transcribe.transcript import Segment

LEAST_LOGPROB = -1000.0
"""In place of the logarithm of nothing, which JSON has no word for."""


@dataclass(frozen=True)
class Cut:
    """One window's segments, and what follows from where its timestamps are."""

    segments: list[Segment]
    after: int
    """Where the next window begins, in frames of 10 ms."""
    ended: bool
    """Whether the speech ended before the window did."""


class Cutter:
    """Makes segments of one model's windows."""

    def __init__(self, tokenizer: Tokenizer, stride: int) -> None:
        """`stride`: frames of 10 ms in one step of the timestamps."""
        self._tokenizer, self._stride = tokenizer, stride
        self._precision = stride * HOP_LENGTH / SAMPLE_RATE

    def text(self, tokens: Sequence[int]) -> str:
        """What the tokens say, timestamps apart."""
        return str(self._tokenizer.decode([token for token in tokens if token < self._tokenizer.eot]))

    def cut(self, result: Decoded, temperature: float, seek: int, size: int) -> Cut:
        """The segments of the window of `size` frames at `seek`; their ids are still to be given."""
        offset = float(seek * HOP_LENGTH / SAMPLE_RATE)
        begin, tokens = self._tokenizer.timestamp_begin, list(result.tokens)
        make = self._maker(result, temperature, seek)

        def time_of(stamp: int) -> float:
            return float(offset + (stamp - begin) * self._precision)

        stamps = [token >= begin for token in tokens]
        ended = stamps[-2:] == [False, True]
        cuts = [index for index in range(1, len(tokens)) if stamps[index - 1] and stamps[index]]
        if not cuts:
            duration = size * HOP_LENGTH / SAMPLE_RATE
            last = next((token for token in reversed(tokens) if token >= begin), begin)
            if last != begin:
                duration = (last - begin) * self._precision
            return Cut([make(offset, offset + duration, slice(None))], seek + size, ended)
        if ended:
            cuts.append(len(tokens))
        segments = [
            make(time_of(tokens[first]), time_of(tokens[end - 1]), slice(first, end))
            for first, end in zip([0, *cuts[:-1]], cuts, strict=True)
        ]
        if ended:
            return Cut(segments, seek + size, ended)
        # What follows the last pair is unfinished: it is heard again.
        return Cut(segments, seek + (tokens[cuts[-1] - 1] - begin) * self._stride, ended)

    def _maker(
        self, result: Decoded, temperature: float, seek: int
    ) -> Callable[[float, float, slice], Segment]:
        ratio = compression_ratio(self._tokenizer.decode(list(result.tokens)).strip())
        return lambda start, end, part: Segment(
            id=0,
            seek=seek,
            start=start,
            end=end,
            text=self.text(result.tokens[part]),
            tokens=result.tokens[part],
            token_logprobs=None if result.token_logprobs is None else result.token_logprobs[part],
            temperature=temperature,
            avg_logprob=max(result.avg_logprob, LEAST_LOGPROB),
            compression_ratio=ratio,
            no_speech_prob=0.0 if math.isnan(result.no_speech_prob) else result.no_speech_prob,
        )


def cleared(segment: Segment) -> Segment:
    """A segment of no length or without text says nothing."""
    if segment.start == segment.end or not segment.text.strip():
        empty = None if segment.words is None else ()
        logprobs = None if segment.token_logprobs is None else ()
        return replace(segment, text="", tokens=(), token_logprobs=logprobs, words=empty)
    return segment
