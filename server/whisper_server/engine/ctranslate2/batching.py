"""Which requests share a call: CTranslate2 wants some things equal in all rows of one."""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from whisper_server.engine.interface import Decode, ModelInfo, Ticket
from whisper_server.engine.tokens import initial_tokens, suppressed_tokens


@dataclass(frozen=True)
class Call:
    """Decodes for which this is equal can share a call. Languages, tasks and the tokens of prompts may differ."""

    prompt: int
    """Tokens before the start of transcript."""
    start: int
    """Tokens from there on: three, four without timestamps, one or two for English-only models."""
    temperature: float
    hypotheses: int
    """Beams at temperature 0, else samples to choose from."""
    patience: float
    length_penalty: float
    suppressed: tuple[int, ...]
    max_initial_timestamp_index: int
    max_length: int
    """The most tokens, prompt included, in CTranslate2's way of counting."""

    def arguments(self) -> dict[str, Any]:
        """For CTranslate2's `generate`."""
        if self.temperature > 0:
            how = {
                "beam_size": 1,
                "num_hypotheses": self.hypotheses,
                "sampling_topk": 0,
                "sampling_temperature": self.temperature,
            }
        else:
            how = {"beam_size": self.hypotheses, "patience": self.patience}
        return how | {
            "length_penalty": self.length_penalty,
            "max_initial_timestamp_index": self.max_initial_timestamp_index,
            "max_length": self.max_length,
            "suppress_tokens": list(self.suppressed),
        }

    def average(self, score: float, length: int) -> float:
        """openai-whisper's average log-probability, which counts the end of text, from CTranslate2's score."""
        return float(score * length**self.length_penalty / (length + 1))


def call_of(info: ModelInfo, request: Decode) -> Call:
    """The call that a request belongs to."""
    tokens, start = initial_tokens(info, request)
    cold = request.temperature == 0
    highest = info.n_audio_ctx
    if request.max_initial_timestamp:
        highest = round(request.max_initial_timestamp * info.n_audio_ctx / 30)
    return Call(
        prompt=start,
        start=len(tokens) - start,
        temperature=request.temperature,
        hypotheses=request.rows,
        patience=(request.patience if cold else None) or 1.0,
        # None is openai-whisper's division by the length, which is 1 here.
        length_penalty=1.0 if request.length_penalty is None else request.length_penalty,
        suppressed=suppressed_tokens(
            info, request.suppress_tokens, no_timestamps=not request.without_timestamps
        ),
        max_initial_timestamp_index=highest,
        max_length=_max_length(info, len(tokens), request.sample_len or info.n_text_ctx // 2),
    )


def _max_length(info: ModelInfo, before: int, sample_len: int) -> int:
    """CTranslate2 samples min(max_length // 2, max_length - before + 1) tokens: the max_length for `sample_len` of them."""
    return min(info.n_text_ctx, max(2 * sample_len, sample_len + before - 1))


@dataclass(eq=False)
class Waiting:
    """A request, until it is answered."""

    ticket: Ticket
    request: Any
    shares: Hashable
    """Requests of one kind for which this is equal can share a call."""
    tries: int = 0
    """How often it found no memory, alone."""
    alone: bool = False
    """Whether it is tried again by itself, as a call failed that it was part of, or all of."""


Queue = deque[Waiting]


def first(queue: Queue, most: int) -> list[Waiting]:
    """The request that waits longest, and those that can share its call."""
    head = queue[0]
    if head.alone:
        return [head]
    return [waiting for waiting in queue if waiting.shares == head.shares and not waiting.alone][:most]
