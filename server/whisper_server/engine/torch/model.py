"""Whisper's network over static caches: many rows, each at its own position, share every pass through the decoder.

The mathematics is openai-whisper's, and so are the weights; what differs is where keys and values are kept. There they grow by
one with each token, which makes all rows of a batch equally long. Here each row writes at its own position of a cache made
beforehand, and a mask hides what lies beyond.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from whisper_server.engine.checkpoint import Checkpoint
from whisper_server.engine.torch.layers import (
    LayerNorm,
    Linear,
    attend,
    attend_among_themselves,
    join_heads,
    split_heads,
)

LENGTHS = (64, 128, 256)
"""How much of the self-attention's cache is read: the shortest of these that holds the longest row, or all."""


@dataclass(frozen=True)
class Cache:
    """Keys and values of all decoder layers: shape (2 * layers, rows, heads, positions, 64), a layer's keys before its values."""

    kv: Tensor

    @staticmethod
    def empty(layers: int, rows: int, heads: int, positions: int, width: int, like: Tensor) -> "Cache":
        # Zeros, not what the memory held: masked values are multiplied by zero, and NaN times zero is NaN.
        return Cache(like.new_zeros((2 * layers, rows, heads, positions, width)))

    def rows(self, first: int, end: int) -> "Cache":
        """A view of some rows."""
        return Cache(self.kv[:, first:end])

    def copy_row(self, source: int, target: int) -> None:
        self.kv[:, target].copy_(self.kv[:, source])


@dataclass(frozen=True)
class Lane:
    """Rows that lie side by side: their own cache, and the windows they listen to, each of them `group` rows in a row."""

    own: Cache
    cross: Cache
    group: int = 1

    @property
    def rows(self) -> int:
        return int(self.own.kv.shape[1])


class _EncoderLayer:
    def __init__(self, weights: "_Weights", name: str) -> None:
        self.attn_ln, self.mlp_ln = weights.norm(f"{name}.attn_ln"), weights.norm(f"{name}.mlp_ln")
        self.qkv, self.out = weights.qkv(f"{name}.attn"), weights.linear(f"{name}.attn.out")
        self.up = weights.linear(f"{name}.mlp.0", gelu=True)
        self.down = weights.linear(f"{name}.mlp.2")


class _DecoderLayer(_EncoderLayer):
    def __init__(self, weights: "_Weights", name: str) -> None:
        super().__init__(weights, name)
        self.cross_ln = weights.norm(f"{name}.cross_attn_ln")
        self.cross_q = weights.linear(f"{name}.cross_attn.query")
        self.cross_out = weights.linear(f"{name}.cross_attn.out")


class Network:
    """One model's weights on one device, arranged for this use."""

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype, device: str) -> None:
        self.dims = dims = checkpoint.dims
        self.dtype = dtype
        self.device = torch.device(device)
        self.alignment_heads = checkpoint.alignment_heads
        weights = _Weights(checkpoint, dtype, self.device)
        self._conv1 = weights.conv("encoder.conv1", stride=1)
        self._conv2 = weights.conv("encoder.conv2", stride=2)
        self._audio_positions = weights.table("encoder.positional_embedding")
        self._encoder = [_EncoderLayer(weights, f"encoder.blocks.{i}") for i in range(dims.n_audio_layer)]
        self._ln_post = weights.norm("encoder.ln_post")
        self._embedding = weights("decoder.token_embedding.weight")
        self._positions = weights.table("decoder.positional_embedding")
        self._decoder = [_DecoderLayer(weights, f"decoder.blocks.{i}") for i in range(dims.n_text_layer)]
        self._ln = weights.norm("decoder.ln")
        self._vocabulary = Linear(self._embedding, None)
        self._cross_kv = weights.all_cross_kv()

    def cache(self, rows: int, positions: int) -> Cache:
        """An empty cache for so many rows."""
        dims = self.dims
        width = dims.n_text_state // dims.n_text_head
        return Cache.empty(
            dims.n_text_layer, rows, dims.n_text_head, positions, width, self._embedding.new_empty(0)
        )

    def encode(self, mel: Tensor) -> Tensor:
        """(rows, n_mels, 3000) to the keys and values of all cross-attentions: (2 * layers, rows, heads, 1500, 64), a view."""
        x = F.gelu(self._conv1(mel.to(self.dtype)))
        x = F.gelu(self._conv2(x)).transpose(1, 2)
        x = (x + self._audio_positions).to(self.dtype)
        heads = self.dims.n_audio_head
        for layer in self._encoder:
            q, k, v = (split_heads(part, heads) for part in layer.qkv(layer.attn_ln(x)).chunk(3, dim=-1))
            x = x + layer.out(join_heads(attend_among_themselves(q, k, v)))
            x = x + layer.down(layer.up(layer.mlp_ln(x)))
        kv = self._cross_kv(self._ln_post(x))
        kv = kv.view(*kv.shape[:2], 2 * self.dims.n_text_layer, self.dims.n_text_head, -1)
        return kv.permute(2, 0, 3, 1, 4)

    def prefill(self, tokens: Tensor, own: Sequence[Cache], cross: Sequence[Cache]) -> Tensor:
        """First pass of rows that join: their tokens, shape (rows, length), padded on the right with anything.

        Writes their keys and values from position 0 into `own`, one Cache of one row each; `cross` likewise. Returns what goes
        into `logits`, shape (rows, length, channels).
        """
        length = tokens.shape[1]
        x = self._embed(tokens, torch.arange(length, device=self.device))
        for index, layer in enumerate(self._decoder):
            q, k, v = self._qkv(layer, x)
            for row, cache in enumerate(own):
                cache.kv[2 * index, 0, :, :length] = k[row]
                cache.kv[2 * index + 1, 0, :, :length] = v[row]
            x = x + layer.out(join_heads(attend_among_themselves(q, k, v, causal=True)))
            q = split_heads(layer.cross_q(layer.cross_ln(x)), self.dims.n_text_head)
            heard = [
                attend(q[row : row + 1], cache.kv[2 * index], cache.kv[2 * index + 1])
                for row, cache in enumerate(cross)
            ]
            x = x + layer.cross_out(join_heads(torch.cat(heard)))
            x = x + layer.down(layer.up(layer.mlp_ln(x)))
        return x

    def step(self, tokens: Tensor, positions: Tensor, longest: int, lanes: Sequence[Lane]) -> Tensor:
        """One token more for each row: (rows,) tokens at (rows,) positions, of which `longest` is the largest.

        Rows are in the order of the lanes. Returns what goes into `logits`, shape (rows, channels).
        """
        length = next((bound for bound in LENGTHS if longest < bound), self.dims.n_text_ctx)
        seen = torch.arange(length, device=self.device) <= positions[:, None]
        mask = torch.zeros_like(seen, dtype=self.dtype).masked_fill_(~seen, -torch.inf)[:, None, None]
        sizes = [lane.rows for lane in lanes]
        x = self._embed(tokens[:, None], positions[:, None])
        for index, layer in enumerate(self._decoder):
            q, k, v = self._qkv(layer, x)
            heard = []
            for lane, at, lane_mask, lane_q, lane_k, lane_v in zip(
                lanes,
                positions.split(sizes),
                mask.split(sizes),
                q.split(sizes),
                k.split(sizes),
                v.split(sizes),
                strict=True,
            ):
                keys, values = lane.own.kv[2 * index], lane.own.kv[2 * index + 1]
                rows = torch.arange(lane.rows, device=self.device)
                keys[rows, :, at] = lane_k[:, :, 0]
                values[rows, :, at] = lane_v[:, :, 0]
                heard.append(attend(lane_q, keys[:, :, :length], values[:, :, :length], lane_mask))
            x = x + layer.out(join_heads(torch.cat(heard)))
            q = layer.cross_q(layer.cross_ln(x))
            heard = [
                self._listen(part, lane, index) for lane, part in zip(lanes, q.split(sizes), strict=True)
            ]
            x = x + layer.cross_out(torch.cat(heard))
            x = x + layer.down(layer.up(layer.mlp_ln(x)))
        return x[:, 0]

    def logits(self, x: Tensor) -> Tensor:
        """(rows, channels) to float32 (rows, n_vocab)."""
        return self._vocabulary(self._ln(x)).float()

    def attention(self, tokens: Tensor, cross: Cache) -> tuple[Tensor, Tensor]:
        """One row's whole text, shape (length,), listened to by the alignment heads.

        Returns their scores before softmax, float32 (alignment heads, length, 1500), and the logits, float32 (length, n_vocab).
        """
        x = self._embed(tokens[None], torch.arange(len(tokens), device=self.device))
        scores = {}
        for index, layer in enumerate(self._decoder):
            q, k, v = self._qkv(layer, x)
            x = x + layer.out(join_heads(attend_among_themselves(q, k, v, causal=True)))
            q = split_heads(layer.cross_q(layer.cross_ln(x)), self.dims.n_text_head)
            keys, values = cross.kv[2 * index], cross.kv[2 * index + 1]
            for head in (head for layer_of, head in self.alignment_heads if layer_of == index):
                scale = q.shape[-1] ** -0.25
                scores[index, head] = ((q[0, head] * scale) @ (keys[0, head] * scale).T).float()
            x = x + layer.cross_out(join_heads(attend(q, keys, values)))
            x = x + layer.down(layer.up(layer.mlp_ln(x)))
        return torch.stack([scores[at] for at in self.alignment_heads]), self.logits(x[0])

    def _embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        return (self._embedding[tokens].float() + self._positions[positions]).to(self.dtype)

    def _qkv(self, layer: _DecoderLayer, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = layer.qkv(layer.attn_ln(x)).chunk(3, dim=-1)
        heads = self.dims.n_text_head
        return split_heads(q, heads), split_heads(k, heads), split_heads(v, heads)

    def _listen(self, q: Tensor, lane: Lane, index: int) -> Tensor:
        """Cross-attention of a lane's (rows, 1, channels): the rows of a group are the queries of their window."""
        q = split_heads(q.view(-1, lane.group, q.shape[-1]), self.dims.n_text_head)
        heard = join_heads(attend(q, lane.cross.kv[2 * index], lane.cross.kv[2 * index + 1]))
        return heard.view(-1, 1, heard.shape[-1])


class _Weights:
    """Reads a checkpoint tensor by tensor: no copy of the whole in another precision is ever made."""

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> None:
        self._checkpoint, self._dtype, self._device = checkpoint, dtype, device

    def __call__(self, name: str) -> Tensor:
        return self._checkpoint.state[name].to(self._device, self._dtype)

    def table(self, name: str) -> Tensor:
        """What is added rather than multiplied stays in float32."""
        return self._checkpoint.state[name].to(self._device, torch.float32)

    def norm(self, name: str) -> LayerNorm:
        return LayerNorm(self.table(f"{name}.weight"), self.table(f"{name}.bias"))

    def linear(self, name: str, *, gelu: bool = False) -> Linear:
        return Linear(self(f"{name}.weight"), self(f"{name}.bias"), gelu=gelu)

    def qkv(self, name: str) -> Linear:
        """Queries, keys and values in one product; keys have no bias."""
        weight = torch.cat([self(f"{name}.{part}.weight") for part in ("query", "key", "value")])
        query, value = self(f"{name}.query.bias"), self(f"{name}.value.bias")
        return Linear(weight, torch.cat([query, torch.zeros_like(query), value]))

    def all_cross_kv(self) -> Linear:
        """The keys and values of all layers in one product: the order is that of Cache."""
        weights, biases = [], []
        for index in range(self._checkpoint.dims.n_text_layer):
            name = f"decoder.blocks.{index}.cross_attn"
            weights += [self(f"{name}.key.weight"), self(f"{name}.value.weight")]
            bias = self(f"{name}.value.bias")
            biases += [torch.zeros_like(bias), bias]
        return Linear(torch.cat(weights), torch.cat(biases))

    def conv(self, name: str, *, stride: int) -> Callable[[Tensor], Tensor]:
        weight, bias = self(f"{name}.weight"), self(f"{name}.bias")
        return lambda x: F.conv1d(x, weight, bias, stride=stride, padding=1)
