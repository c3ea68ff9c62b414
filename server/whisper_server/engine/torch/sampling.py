"""Which of the tokens that may come next does: the likeliest or one drawn, for each row; for groups of rows that follow several
candidates of one text, beam search, and the best of several samples. As openai-whisper's decoding.py has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Candidate:
    """What a text may be."""

    tokens: tuple[int, ...]
    """Sampled ones, without the end of text."""
    logprobs: tuple[float, ...]
    """Of each of them."""
    total: float
    """The sum of the log-probabilities, the end's included."""


@dataclass(frozen=True)
class Choice:
    """What one row of a group may say next."""

    token: int
    """Chosen as a single row would."""
    logprob: float
    likeliest: Sequence[tuple[int, float]]
    """Tokens and their log-probabilities, the likeliest first."""


class Search(Protocol):
    """What the rows of one group have found so far."""

    def update(self, choices: Sequence[Choice]) -> tuple[list[int], list[int]]:
        """Take in what each row may say next: the next token of each row, and which row it continues."""

    def is_complete(self) -> bool:
        """Whether more tokens would change nothing."""

    def candidates(self) -> list[Candidate]:
        """What was found, best or not."""


class Beam:
    """Beam search with openai-whisper's notion of patience."""

    def __init__(self, size: int, patience: float | None, eot: int) -> None:
        self._size, self._eot = size, eot
        self._wanted = round(size * (patience or 1.0))
        self._beams: list[tuple[int, ...]] = [()] * size
        self._logprobs: list[tuple[float, ...]] = [()] * size
        self._sums = [np.float32(0)] * size
        self._finished: dict[tuple[int, ...], Candidate] = {}

    def update(self, choices: Sequence[Choice]) -> tuple[list[int], list[int]]:
        found: dict[tuple[int, ...], tuple[np.float32, int, float]] = {}
        for row, choice in enumerate(choices):
            for token, logprob in choice.likeliest[: self._size + 1]:
                found[(*self._beams[row], token)] = (self._sums[row] + np.float32(logprob), row, logprob)
        beams, logprobs, sums, sources = [], [], [], []
        finished: list[Candidate] = []
        for sequence in sorted(found, key=lambda sequence: found[sequence][0], reverse=True):
            total, row, logprob = found[sequence]
            if sequence[-1] == self._eot:
                finished.append(Candidate(sequence[:-1], self._logprobs[row], float(total)))
            else:
                beams.append(sequence)
                logprobs.append((*self._logprobs[row], logprob))
                sums.append(total)
                sources.append(row)
                if len(beams) == self._size:
                    break
        for candidate in finished:
            if len(self._finished) >= self._wanted:
                break
            self._finished[candidate.tokens] = candidate
        self._beams, self._logprobs, self._sums = beams, logprobs, sums
        return [beam[-1] for beam in beams], sources

    def is_complete(self) -> bool:
        return len(self._finished) >= self._wanted

    def candidates(self) -> list[Candidate]:
        found = dict(self._finished)
        if len(found) < self._size:  # too few came to an end: take those that did not
            for row in list(np.argsort(np.array(self._sums)))[::-1]:
                tokens = self._beams[row]
                found[tokens] = Candidate(tokens, self._logprobs[row], float(self._sums[row]))
                if len(found) >= self._size:
                    break
        return list(found.values())


class BestOf:
    """Independent samples."""

    def __init__(self, size: int, eot: int) -> None:
        self._eot = eot
        self._texts: list[list[int]] = [[] for _ in range(size)]
        self._logprobs: list[list[float]] = [[] for _ in range(size)]
        self._sums = [0.0] * size
        self._ended = [False] * size

    def update(self, choices: Sequence[Choice]) -> tuple[list[int], list[int]]:
        tokens = [choice.token for choice in choices]
        for row, choice in enumerate(choices):
            if self._ended[row]:
                tokens[row] = self._eot
                continue
            self._sums[row] += choice.logprob
            self._ended[row] = choice.token == self._eot
            if not self._ended[row]:
                self._texts[row].append(choice.token)
                self._logprobs[row].append(choice.logprob)
        return tokens, list(range(len(tokens)))

    def is_complete(self) -> bool:
        return all(self._ended)

    def candidates(self) -> list[Candidate]:
        return [
            Candidate(tuple(text), tuple(logprobs), total)
            for text, logprobs, total in zip(self._texts, self._logprobs, self._sums, strict=True)
        ]


def choose(logits: Tensor, temperature: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
    """A token of each row of (rows, n_vocab), and its log-probability among what is allowed.

    The likeliest where the row's temperature is 0; elsewhere one drawn by the row's `noise`, (rows, n_vocab), exponentially
    distributed. The way of torch.multinomial, so that the same noise draws the same tokens there.
    """
    likeliest, token = logits.max(-1)
    if noise is None:
        return token, likeliest - logits.logsumexp(-1)
    sampled = temperature > 0
    chances = (logits / torch.where(sampled, temperature, 1.0)[:, None]).softmax(-1)
    token = torch.where(sampled, (chances / noise).argmax(-1), token)
    return token, logits.log_softmax(-1).gather(-1, token[:, None])[:, 0]


def best(candidates: Sequence[Candidate], length_penalty: float | None) -> Candidate:
    """The likeliest for its length; `length_penalty` as in the paper on Google's translation system, None divides by length."""

    def score(candidate: Candidate) -> float:
        length = len(candidate.tokens)
        if length_penalty is None:
            return candidate.total / max(1, length)
        return float(candidate.total / ((5 + length) / 6) ** length_penalty)

    return candidates[int(np.argmax([score(candidate) for candidate in candidates]))]
