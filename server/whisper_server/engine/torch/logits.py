"""Which token comes next: openai-whisper's rules about blanks, symbols and timestamps, for many rows at once.

openai-whisper applies them row by row in Python, asking the device about each. Here what a row is allowed follows from a few
numbers that stay on the device, so that no step waits for an answer.
"""

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Vocabulary:
    """Where the special tokens of a tokenizer are."""

    size: int
    eot: int
    timestamp_begin: int
    blank: tuple[int, ...]
    """Tokens that no text may begin with: a blank, and the end."""


@dataclass(frozen=True)
class Rows:
    """What the rules know of each row: tensors whose first dimension is the row, all on the device."""

    token: Tensor
    """int64: the last token, not yet seen by the network."""
    position: Tensor
    """int64: where that token stands."""
    sampled: Tensor
    """int64: how many tokens were sampled so far."""
    sum_logprob: Tensor
    """float32: of the sampled ones."""
    timestamps: Tensor
    """bool: whether the row has timestamps at all."""
    last_is_stamp: Tensor
    """bool: of the sampled tokens."""
    one_before_is_stamp: Tensor
    """bool; true as well while there is none."""
    last_stamp: Tensor
    """int64: the last timestamp sampled, -1 if there is none."""
    highest_first: Tensor
    """int64: the highest token that may come first."""
    banned: Tensor
    """bool (rows, n_vocab): tokens that never come."""

    @staticmethod
    def empty(rows: int, vocabulary: Vocabulary, device: torch.device) -> "Rows":
        def full(dtype: torch.dtype, value: int = 0) -> Tensor:
            return torch.full((rows,), value, dtype=dtype, device=device)

        return Rows(
            token=full(torch.int64),
            position=full(torch.int64),
            sampled=full(torch.int64),
            sum_logprob=full(torch.float32),
            timestamps=full(torch.bool),
            last_is_stamp=full(torch.bool),
            one_before_is_stamp=full(torch.bool),
            last_stamp=full(torch.int64, -1),
            highest_first=full(torch.int64),
            banned=torch.zeros((rows, vocabulary.size), dtype=torch.bool, device=device),
        )

    def view(self, first: int, end: int) -> Self:
        """Some rows, sharing memory with these."""
        return replace(self, **{entry.name: getattr(self, entry.name)[first:end] for entry in fields(self)})

    def copy_row(self, source: int, target: int) -> None:
        for entry in fields(self):
            tensor = getattr(self, entry.name)
            tensor[target] = tensor[source]

    def gather(self, rows: Tensor) -> Self:
        """A copy of the rows with these numbers, in that order."""
        return replace(self, **{entry.name: getattr(self, entry.name)[rows] for entry in fields(self)})

    def scatter(self, rows: Tensor, changed: Self) -> None:
        """Write back what was gathered and has changed; `banned` never does."""
        for entry in fields(self):
            if entry.name != "banned":
                getattr(self, entry.name)[rows] = getattr(changed, entry.name)

    def begin(self, row: int, position: int, *, timestamps: bool, highest_first: int, banned: Tensor) -> None:
        """Let a new sequence start in a row; the last token of its prompt stands at `position`."""
        self.position[row] = position
        self.sampled[row] = 0
        self.sum_logprob[row] = 0.0
        self.timestamps[row] = timestamps
        self.last_is_stamp[row] = False
        self.one_before_is_stamp[row] = True
        self.last_stamp[row] = -1
        self.highest_first[row] = highest_first
        self.banned[row] = banned

    def take(self, token: Tensor, logprob: Tensor, vocabulary: Vocabulary) -> None:
        """Append a token to each row."""
        self.sum_logprob.add_(logprob)
        is_stamp = token >= vocabulary.timestamp_begin
        self.one_before_is_stamp.copy_((self.sampled == 0) | self.last_is_stamp)
        self.last_is_stamp.copy_(is_stamp)
        self.last_stamp.copy_(torch.where(is_stamp, token, self.last_stamp))
        self.token.copy_(token)
        self.sampled.add_(1)
        self.position.add_(1)


def forbid(logits: Tensor, rows: Rows, vocabulary: Vocabulary) -> Tensor:
    """Set what is not allowed to -inf, in place; (rows, n_vocab).

    The rules are those of openai-whisper's decoding.py: SuppressBlank, SuppressTokens, ApplyTimestampRules.
    """
    begin = vocabulary.timestamp_begin
    first = rows.sampled == 0
    logits.masked_fill_(rows.banned, -torch.inf)
    # Not by an index with all of them: it would be copied to the device, which waits for it.
    for token in vocabulary.blank:
        logits[:, token].masked_fill_(first, -torch.inf)

    text, stamps = logits[:, :begin], logits[:, begin:]
    pair_open = rows.last_is_stamp & ~rows.one_before_is_stamp
    pair_closed = rows.last_is_stamp & rows.one_before_is_stamp
    # After one timestamp: another one, or the end. At the beginning: a timestamp, and an early one.
    no_text = rows.timestamps & first
    text.masked_fill_(no_text[:, None], -torch.inf)
    text[:, : vocabulary.eot].masked_fill_((rows.timestamps & pair_open)[:, None], -torch.inf)
    # After two timestamps: text. Later ones never go back, and a segment is never empty, or it might go on for ever.
    lowest = torch.where(rows.last_stamp < 0, begin, rows.last_stamp + (~pair_open).long())
    lowest = torch.where(rows.timestamps, torch.where(pair_closed, vocabulary.size, lowest), begin)
    highest = torch.where(no_text, rows.highest_first, vocabulary.size)
    stamp = torch.arange(begin, vocabulary.size, device=logits.device)
    stamps.masked_fill_((stamp < lowest[:, None]) | (stamp > highest[:, None]), -torch.inf)
    # If a timestamp is likelier than any one word, it is a timestamp.
    must = rows.timestamps & (stamps.logsumexp(-1) > text.amax(-1))
    text.masked_fill_(must[:, None], -torch.inf)
    return logits


def greedy(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest token of each row, and its log-probability among what is allowed."""
    best, token = logits.max(-1)
    return token, best - logits.logsumexp(-1)
