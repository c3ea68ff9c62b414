"""When each token was spoken, from where the alignment heads look. As openai-whisper's timing.py finds it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from whisper.timing import dtw_cpu, median_filter

MEDIAN_FILTER_WIDTH = 7


@dataclass(frozen=True)
class TorchAlignment:
    """Implements engine.Alignment."""

    token_probabilities: Sequence[float]
    matrix: NDArray[np.float64]
    """How much each token, the end of text included, has to do with each frame of 20 ms."""

    @staticmethod
    def of(
        scores: Tensor, logits: Tensor, text_tokens: Sequence[int], before: int, num_frames: int
    ) -> "TorchAlignment":
        """From the heads' scores (heads, length, 1500) and the text tokens' logits (length, text tokens).

        `before` tokens precede the one before the text.
        """
        chances = logits[before : before + len(text_tokens)].softmax(-1)
        index = torch.tensor(text_tokens, device=logits.device)
        probabilities = chances.gather(-1, index[:, None])[:, 0].tolist()
        weights = scores[:, :, : num_frames // 2].softmax(-1)
        std, mean = torch.std_mean(weights, dim=-2, keepdim=True, unbiased=False)
        weights = median_filter((weights - mean) / std, MEDIAN_FILTER_WIDTH)
        matrix = weights.mean(dim=0)[before:-1]
        return TorchAlignment(probabilities, matrix.double().cpu().numpy())

    def path(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        text, time = dtw_cpu(-self.matrix)
        return text, time
