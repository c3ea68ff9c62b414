"""When each token was spoken, from where the alignment heads look. As openai-whisper's timing.py finds it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from whisper.timing import dtw_cpu, median_filter

from whisper_server.engine.torch.host_copy import HostCopy, upload

MEDIAN_FILTER_WIDTH = 7
PART_BYTES = 1 << 28
"""Of the device's memory, for what is made of the heads' scores at a time: a model whose heads nobody has measured has 320."""
_FOLD = 4 * MEDIAN_FILTER_WIDTH
"""Values that the median filter makes of each, at most: it unfolds them, and sorts these, their places being twice as wide."""


@dataclass(frozen=True)
class TorchAlignment:
    """Implements engine.Alignment."""

    token_probabilities: Sequence[float]
    matrix: NDArray[np.float64]
    """How much each token, the end of text included, has to do with each frame of 20 ms."""

    def path(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        text, time = dtw_cpu(-self.matrix)
        return text, time


def align(
    heard: Iterator[Tensor], heads: int, text_tokens: Sequence[int], before: int, num_frames: int, eot: int
) -> Callable[[], TorchAlignment]:
    """From what Network.listen yields, so many heads' scores and the logits. `before` tokens precede the one before the text.

    The result waits for the device.
    """
    frames = num_frames // 2
    total: Tensor | None = None
    part: list[Tensor] = []
    for number in range(1, heads + 1):
        part.append(next(heard)[:, :frames])
        if number == heads or len(part) * part[0].nbytes * _FOLD >= PART_BYTES:
            weights = _weights(torch.stack(part)).sum(dim=0)
            total = weights if total is None else total + weights
            part = []
    assert total is not None  # noqa: S101  # every model has such heads
    chances = next(heard)[before : before + len(text_tokens), :eot].softmax(-1)
    index = upload(text_tokens, torch.int64, total.device)
    probabilities = HostCopy.of(chances.gather(-1, index[:, None])[:, 0])
    matrix = HostCopy.of((total / heads)[before:-1])

    def arrived() -> TorchAlignment:
        return TorchAlignment(probabilities.arrived().tolist(), matrix.arrived().double().numpy())

    return arrived


def _weights(scores: Tensor) -> Tensor:
    """(heads, length, frames)."""
    weights = scores.softmax(-1)
    std, mean = torch.std_mean(weights, dim=-2, keepdim=True, unbiased=False)
    filtered: Tensor = median_filter((weights - mean) / std, MEDIAN_FILTER_WIDTH)
    return filtered
