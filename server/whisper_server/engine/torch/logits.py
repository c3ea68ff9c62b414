"""Which tokens may come next: openai-whisper's logits filters about blanks, symbols and timestamps, for many rows at once.

openai-whisper applies them row by row in Python, asking the device about each. Here what a row is allowed follows from a few
numbers that stay on the device, so that no step waits for an answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from whisper_server.engine.torch.host_copy import upload

SHORT_PROMPT = 8
"""Most tokens of a prompt that can go through the decoder's steps, one by one."""


@dataclass(frozen=True)
class Vocabulary:
    """Where the special tokens of a tokenizer are."""

    size: int
    eot: int
    timestamp_begin: int
    no_speech: int
    blank: tuple[int, ...]
    """Tokens that no text may begin with: a blank, and the end."""


@dataclass(frozen=True)
class Beginning:
    """How a row starts."""

    token: int
    """The first one that its steps feed to the network."""
    position: int
    """Where that stands."""
    prompt: Sequence[int]
    """The whole prompt; what comes after `position` is fed step by step, SHORT_PROMPT tokens at most."""
    start: int
    """Where the start of transcript stands."""
    timestamps: bool
    highest_first: int
    temperature: float


@dataclass(frozen=True)
class RowState:
    """What the filters and the choice know of each row: tensors whose first dimension is the row, all on the device."""

    token: Tensor
    """int64: the last token, not yet seen by the network."""
    position: Tensor
    """int64: where that token stands."""
    prompt: Tensor
    """int64 (rows, SHORT_PROMPT): the beginning of the prompt; read where it goes through the steps."""
    prompt_end: Tensor
    """int64: where the prompt's last token stands: from there on tokens are sampled."""
    start: Tensor
    """int64: where the start of transcript stands."""
    no_speech: Tensor
    """float32: how likely silence was there."""
    temperature: Tensor
    """float32: 0 for the likeliest token."""
    sampled: Tensor
    """int64: how many tokens were sampled so far."""
    sum_logprob: Tensor
    """float32: of the sampled ones."""
    timestamps: Tensor
    """bool: whether the row has timestamps at all."""
    last_is_timestamp: Tensor
    """bool: of the sampled tokens."""
    one_before_is_timestamp: Tensor
    """bool; true as well while there is none."""
    last_timestamp: Tensor
    """int64: the last timestamp sampled, -1 if there is none."""
    highest_first: Tensor
    """int64: the highest token that may come first."""
    banned: Tensor
    """bool (rows, n_vocab): tokens that never come."""

    @staticmethod
    def empty(rows: int, vocabulary: Vocabulary, device: torch.device) -> "RowState":
        def zeros(dtype: torch.dtype, *shape: int) -> Tensor:
            return torch.zeros((rows, *shape), dtype=dtype, device=device)

        return RowState(
            token=zeros(torch.int64),
            position=zeros(torch.int64),
            prompt=zeros(torch.int64, SHORT_PROMPT),
            prompt_end=zeros(torch.int64),
            start=zeros(torch.int64),
            no_speech=zeros(torch.float32),
            temperature=zeros(torch.float32),
            sampled=zeros(torch.int64),
            sum_logprob=zeros(torch.float32),
            timestamps=zeros(torch.bool),
            last_is_timestamp=zeros(torch.bool),
            one_before_is_timestamp=zeros(torch.bool),
            last_timestamp=zeros(torch.int64),
            highest_first=zeros(torch.int64),
            banned=zeros(torch.bool, vocabulary.size),
        )

    def view(self, first: int, end: int) -> Self:
        """Some rows, sharing memory with these."""
        return replace(self, **{entry.name: getattr(self, entry.name)[first:end] for entry in fields(self)})

    def gather(self, rows: Tensor) -> Self:
        """A copy of the rows with these numbers, in that order."""
        return replace(self, **{entry.name: getattr(self, entry.name)[rows] for entry in fields(self)})

    def move(self, sources: Tensor, targets: Tensor) -> None:
        """Let each target be what its source was."""
        for entry in fields(self):
            tensor = getattr(self, entry.name)
            tensor[targets] = tensor[sources]

    def write(self, rows: Sequence[int], given: Self) -> None:
        """Let these rows be as given, one after the other; takes no memory."""
        for entry in fields(self):
            for row, value in zip(rows, getattr(given, entry.name), strict=True):
                getattr(self, entry.name)[row].copy_(value)

    def begin(self, rows: Tensor, beginnings: Sequence[Beginning], banned: Tensor) -> None:
        """Let new sequences start in rows; `banned` (rows, n_vocab)."""
        numbers = [
            (
                *(each.token, each.position, len(each.prompt) - 1, each.start),
                *(each.timestamps, each.highest_first, each.temperature),
                *(*each.prompt[:SHORT_PROMPT], *[0] * (SHORT_PROMPT - len(each.prompt))),
            )
            for each in beginnings
        ]
        # float64 holds each of them exactly, and is one copy to the device.
        columns = upload(numbers, torch.float64, self.token.device)
        token, position, prompt_end, start, timestamps, highest_first = columns[:, :6].long().unbind(1)
        # A number that is assigned by an index would be copied to the device, which waits for it: not so with index_fill_.
        self.token[rows] = token
        self.position[rows] = position
        self.prompt[rows] = columns[:, 7:].long()
        self.prompt_end[rows] = prompt_end
        self.start[rows] = start
        self.no_speech.index_fill_(0, rows, 0.0)
        self.temperature[rows] = columns[:, 6].float()
        self.sampled.index_fill_(0, rows, 0)
        self.sum_logprob.index_fill_(0, rows, 0.0)
        self.timestamps[rows] = timestamps.bool()
        self.last_is_timestamp.index_fill_(0, rows, False)
        self.one_before_is_timestamp.index_fill_(0, rows, True)
        self.last_timestamp.index_fill_(0, rows, -1)
        self.highest_first[rows] = highest_first
        self.banned[rows] = banned

    def append(self, token: Tensor, logprob: Tensor, vocabulary: Vocabulary) -> None:
        """A sampled token more for each row."""
        self._append(token, logprob, token >= vocabulary.timestamp_begin)
        self.sampled.add_(1)

    def append_or_follow_prompt(self, token: Tensor, logprob: Tensor, vocabulary: Vocabulary) -> None:
        """The same where the prompt is over; elsewhere the prompt's next token, which counts for nothing."""
        free = self.position >= self.prompt_end
        following = (self.position + 1).clamp(max=SHORT_PROMPT - 1)
        token = torch.where(free, token, self.prompt.gather(1, following[:, None])[:, 0])
        self._append(token, torch.where(free, logprob, 0.0), free & (token >= vocabulary.timestamp_begin))
        self.sampled.add_(free)

    def _append(self, token: Tensor, logprob: Tensor, is_timestamp: Tensor) -> None:
        self.sum_logprob.add_(logprob)
        self.one_before_is_timestamp.copy_((self.sampled == 0) | self.last_is_timestamp)
        self.last_is_timestamp.copy_(is_timestamp)
        self.last_timestamp.copy_(torch.where(is_timestamp, token, self.last_timestamp))
        self.token.copy_(token)
        self.position.add_(1)

    def hear_silence(self, logits: Tensor, vocabulary: Vocabulary) -> None:
        """Note how likely silence is in rows that are at the start of transcript; unfiltered logits."""
        silence = logits.softmax(-1)[:, vocabulary.no_speech]
        self.no_speech.copy_(torch.where(self.position == self.start, silence, self.no_speech))


def filter_logits(logits: Tensor, rows: RowState, vocabulary: Vocabulary) -> Tensor:
    """Set what is not allowed to -inf, in place; (rows, n_vocab).

    The filters are those of openai-whisper's decoding.py: SuppressBlank, SuppressTokens, ApplyTimestampRules.
    """
    begin = vocabulary.timestamp_begin
    first = rows.sampled == 0
    logits.masked_fill_(rows.banned, -torch.inf)
    # Not by an index with all of them: it would be copied to the device, which waits for it.
    for token in vocabulary.blank:
        logits[:, token].masked_fill_(first, -torch.inf)

    text, timestamps = logits[:, :begin], logits[:, begin:]
    pair_open = rows.last_is_timestamp & ~rows.one_before_is_timestamp
    pair_closed = rows.last_is_timestamp & rows.one_before_is_timestamp
    # After one timestamp: another one, or the end. At the beginning: a timestamp, and an early one.
    no_text = rows.timestamps & first
    text.masked_fill_(no_text[:, None], -torch.inf)
    text[:, : vocabulary.eot].masked_fill_((rows.timestamps & pair_open)[:, None], -torch.inf)
    # After two timestamps: text. Later ones never go back, and a segment is never empty, or it might go on for ever.
    lowest = torch.where(rows.last_timestamp < 0, begin, rows.last_timestamp + (~pair_open).long())
    lowest = torch.where(rows.timestamps, torch.where(pair_closed, vocabulary.size, lowest), begin)
    highest = torch.where(no_text, rows.highest_first, vocabulary.size)
    number = torch.arange(begin, vocabulary.size, device=logits.device)
    timestamps.masked_fill_((number < lowest[:, None]) | (number > highest[:, None]), -torch.inf)
    # If a timestamp is likelier than any one word, it is a timestamp.
    must = rows.timestamps & (timestamps.logsumexp(-1) > text.amax(-1))
    text.masked_fill_(must[:, None], -torch.inf)
    return logits
