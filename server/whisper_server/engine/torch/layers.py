"""Linear layers, layer norms and attention, each in the form that is fastest where it runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

PLANNED_FIRST = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


def computes_bfloat16() -> bool:
    """Whether this CPU can: oneDNN packs weights of bfloat16 only where there are instructions for it."""
    return not torch.backends.mkldnn.is_available() or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Linear:
    """x @ weight.T + bias, then GELU if asked for; `weight` has the shape (out, in).

    On a CPU the weights are packed once for oneDNN, as torch's own compiler does when it freezes a model: with few rows that is
    two to four times faster than packing them in each call.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> None:
        self._bias = bias
        self._gelu = gelu
        self._packed = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight) if self._packed else weight

    def __call__(self, x: Tensor) -> Tensor:
        if self._packed:
            kind, algorithm = ("gelu", "none") if self._gelu else ("none", "")
            y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, kind, [], algorithm)
            return y
        y = F.linear(x, self._weight, self._bias)
        return F.gelu(y) if self._gelu else y


class LayerNorm:
    """Computed in float32 whatever comes in.

    A GPU's kernel does so by itself, in one pass, if its weights have the precision of what comes in; official ones lose nothing
    by that, as their files are float16. Elsewhere each input is converted, and back.
    """

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        """`weight` and `bias` in float32."""
        self._one_kernel = weight.device.type != "cpu" and dtype is not torch.float32
        self._weight = weight.to(dtype) if self._one_kernel else weight
        self._bias = bias.to(dtype) if self._one_kernel else bias

    def __call__(self, x: Tensor) -> Tensor:
        if self._one_kernel:
            return F.layer_norm(x, self._weight.shape, self._weight, self._bias)
        return F.layer_norm(x.float(), self._weight.shape, self._weight, self._bias).to(x.dtype)


@contextmanager
def planned_attention() -> Iterator[None]:
    """Attention of shapes of which there are few, all met before the first request: by cuDNN, where there is that on a GPU.

    It makes a plan for each shape that it meets, which takes it a while, and then reads keys for single queries about twice as
    fast as the other kernels do, close to what the memory allows.
    """
    if not torch.cuda.is_available():
        yield
        return
    with sdpa_kernel(PLANNED_FIRST, set_priority=True):
        yield


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention of few queries to many keys: shapes (rows, heads, queries or keys, 64); `mask` is added to the scores."""
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    # On a CPU torch's fused kernel is slow for single queries, above all in bfloat16.
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    if mask is not None:
        scores = scores + mask
    return torch.matmul(scores.softmax(-1), v)


def attend_to_windows(q: Tensor, k: Tensor, v: Tensor, windows: Tensor) -> Tensor:
    """Cross-attention of rows, (rows, heads, queries, 64), to the window of each: (rows,) of (windows, heads, keys, 64)."""
    if q.device.type != "cpu":
        # Which windows they are is not known when the kernels are recorded, so these are copied together, a layer at a time.
        return F.scaled_dot_product_attention(q, k.index_select(0, windows), v.index_select(0, windows))
    return torch.cat(
        [attend(q[row : row + 1], k[at : at + 1], v[at : at + 1]) for row, at in enumerate(windows.tolist())]
    )


def attend_among_themselves(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    """Self-attention of whole sequences: shapes (rows, heads, length, 64)."""
    if q.dtype is not torch.bfloat16 or q.device.type != "cpu" or causal:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal and q.shape[-2] > 1)
    # The CPU's fused kernel computes bfloat16 at float32's speed: head by head, matrix products are faster.
    result = torch.empty_like(q)
    for row, head in torch.cartesian_prod(torch.arange(q.shape[0]), torch.arange(q.shape[1])).tolist():
        result[row, head] = attend(q[row, head], k[row, head], v[row, head])
    return result


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(rows, length, channels) to (rows, heads, length, 64)."""
    return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(rows, heads, length, 64) to (rows, length, channels)."""
    return x.transpose(1, 2).flatten(2)
