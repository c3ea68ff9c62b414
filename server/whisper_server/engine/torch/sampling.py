"""Several candidates for one window: beam search, and the best of several samples. As openai-whisper's decoding.py has them."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

Candidate = tuple[tuple[int, ...], float]
"""Sampled tokens without the end of text, and the sum of their log-probabilities."""


class Search(Protocol):
    """What the rows of one group have found so far."""

    def update(self, logits: Tensor) -> tuple[list[int], list[int]]:
        """Take in what may come next, (rows, n_vocab), filtered; the next token of each row, and which row it continues."""

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
        self._sums = [np.float32(0)] * size
        self._finished: dict[tuple[int, ...], float] = {}

    def update(self, logits: Tensor) -> tuple[list[int], list[int]]:
        top = logits.float().log_softmax(-1).topk(self._size + 1)
        found: dict[tuple[int, ...], tuple[np.float32, int]] = {}
        for row, (values, tokens) in enumerate(zip(top.values.tolist(), top.indices.tolist(), strict=True)):
            for value, token in zip(values, tokens, strict=True):
                found[(*self._beams[row], token)] = (self._sums[row] + np.float32(value), row)
        beams, sums, sources = [], [], []
        finished: list[tuple[tuple[int, ...], float]] = []
        for sequence in sorted(found, key=lambda sequence: found[sequence][0], reverse=True):
            total, row = found[sequence]
            if sequence[-1] == self._eot:
                finished.append((sequence[:-1], float(total)))
            else:
                beams.append(sequence)
                sums.append(total)
                sources.append(row)
                if len(beams) == self._size:
                    break
        for sequence, score in finished:
            if len(self._finished) >= self._wanted:
                break
            self._finished[sequence] = score
        self._beams, self._sums = beams, sums
        return [beam[-1] for beam in beams], sources

    def is_complete(self) -> bool:
        return len(self._finished) >= self._wanted

    def candidates(self) -> list[Candidate]:
        found = dict(self._finished)
        if len(found) < self._size:  # too few came to an end: take those that did not
            for row in list(np.argsort(np.array(self._sums)))[::-1]:
                found[self._beams[row]] = float(self._sums[row])
                if len(found) >= self._size:
                    break
        return list(found.items())


class BestOf:
    """Independent samples."""

    def __init__(self, size: int, temperature: float, generator: torch.Generator, eot: int) -> None:
        self._temperature, self._generator, self._eot = temperature, generator, eot
        self._texts: list[list[int]] = [[] for _ in range(size)]
        self._sums = [0.0] * size
        self._ended = [False] * size

    def update(self, logits: Tensor) -> tuple[list[int], list[int]]:
        tokens, logprobs = (result.tolist() for result in sampled(logits, self._temperature, self._generator))
        for row, (token, logprob) in enumerate(zip(tokens, logprobs, strict=True)):
            if self._ended[row]:
                tokens[row] = self._eot
                continue
            self._sums[row] += logprob
            self._ended[row] = token == self._eot
            if not self._ended[row]:
                self._texts[row].append(token)
        return tokens, list(range(len(tokens)))

    def is_complete(self) -> bool:
        return all(self._ended)

    def candidates(self) -> list[Candidate]:
        return [(tuple(text), total) for text, total in zip(self._texts, self._sums, strict=True)]


def sampled(logits: Tensor, temperature: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A token drawn for each row, and its log-probability at temperature 1.

    The way of torch.multinomial, so that the same noise draws the same tokens there.
    """
    chances = (logits / temperature).softmax(-1)
    noise = torch.empty_like(chances).exponential_(1, generator=generator)
    token = (chances / noise).argmax(-1)
    return token, logits.log_softmax(-1).gather(-1, token[:, None])[:, 0]


def best(candidates: Sequence[Candidate], length_penalty: float | None) -> Candidate:
    """The likeliest for its length; `length_penalty` as in the paper on Google's translation system, None divides by length."""

    def score(candidate: Candidate) -> float:
        tokens, total = candidate
        if length_penalty is None:
            return total / max(1, len(tokens))
        return float(total / ((5 + len(tokens)) / 6) ** length_penalty)

    return candidates[int(np.argmax([score(candidate) for candidate in candidates]))]
