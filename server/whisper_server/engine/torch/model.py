"""Whisper's network over static caches: many rows, each at its own position, share every pass through the decoder.

The mathematics is openai-whisper's, and so are the weights; what differs is where keys and values are kept. There they grow by
one with each token, which makes all rows of a batch equally long. Here each row writes at its own position of a cache made
beforehand, and a mask hides what lies beyond.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from whisper_server.engine.checkpoint import Checkpoint
from whisper_server.engine.torch.kv_cache import Cache, CacheShape, Lane
from whisper_server.engine.torch.layers import (
    LayerNorm,
    Linear,
    attend,
    attend_among_themselves,
    attend_to_windows,
    join_heads,
    split_heads,
)


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
        self.cross_kv = weights.kv(f"{name}.cross_attn")
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
        # A GPU's matrix products want multiples of eight.
        table = weights("decoder.token_embedding.weight")
        padded = F.pad(table, (0, 0, 0, -len(table) % 8)) if self.device.type == "cuda" else table
        self._embedding = padded[: len(table)]
        self._positions = weights.table("decoder.positional_embedding")
        self._decoder = [_DecoderLayer(weights, f"decoder.blocks.{i}") for i in range(dims.n_text_layer)]
        self._ln = weights.norm("decoder.ln")
        self._vocabulary = Linear(padded, None)

    @property
    def cache_shape(self) -> CacheShape:
        """Of the decoder's keys and values."""
        dims = self.dims
        width = dims.n_text_state // dims.n_text_head
        return CacheShape(dims.n_text_layer, dims.n_text_head, width, self.dtype, self.device)

    def encode(self, mel: Tensor, cross_kv: Cache, slots: Tensor, layers_at_once: int) -> Iterator[None]:
        """(rows, n_mels, 3000) to the keys and values of all cross-attentions, which go into those `slots` (rows,) of `cross_kv`.

        Pauses after so many layers, for others to have the device meanwhile.
        """
        x = F.gelu(self._conv1(mel.to(self.dtype)))
        # Contiguous: else all that follows goes through memory in strides, which costs a GPU a quarter of its time.
        x = F.gelu(self._conv2(x)).transpose(1, 2).contiguous()
        x = (x + self._audio_positions).to(self.dtype)
        heads = self.dims.n_audio_head
        for number, layer in enumerate(self._encoder, 1):
            q, k, v = (split_heads(part, heads) for part in layer.qkv(layer.attn_ln(x)).chunk(3, dim=-1))
            x = x + layer.out(join_heads(attend_among_themselves(q, k, v)))
            x = x + layer.down(layer.up(layer.mlp_ln(x)))
            if number % layers_at_once == 0 and number < len(self._encoder):
                yield
        x = self._ln_post(x)
        for index, decoder_layer in enumerate(self._decoder):
            for part, values in enumerate(decoder_layer.cross_kv(x).chunk(2, dim=-1)):
                # In words of eight bytes: a GPU copies element by element here.
                heard = split_heads(values, self.dims.n_text_head).view(torch.int64)
                cross_kv.kv[2 * index + part].view(torch.int64).index_copy_(0, slots, heard)

    def prefill(
        self, tokens: Tensor, windows: Tensor, cross_kv: Cache, rows: Tensor | None, self_kv: Cache
    ) -> Tensor:
        """The beginnings of texts in one pass: tokens (texts, length), padded on the right, hear `windows` (texts,).

        Their keys and values are written from position 0 into `rows` (texts,) of `self_kv`; without rows nowhere. Returns what
        goes into `logits`, shape (texts, length, channels).
        """
        length = tokens.shape[1]
        x = self._embed(tokens, torch.arange(length, device=self.device))
        for index, layer in enumerate(self._decoder):
            q, k, v = self._qkv(layer, x)
            if rows is not None:
                self_kv.kv[2 * index][rows, :, :length] = k
                self_kv.kv[2 * index + 1][rows, :, :length] = v
            x = x + layer.out(join_heads(attend_among_themselves(q, k, v, causal=True)))
            q = split_heads(layer.cross_q(layer.cross_ln(x)), self.dims.n_text_head)
            heard = attend_to_windows(q, cross_kv.kv[2 * index], cross_kv.kv[2 * index + 1], windows)
            x = x + layer.cross_out(join_heads(heard))
            x = x + layer.down(layer.up(layer.mlp_ln(x)))
        return x

    def step(self, tokens: Tensor, positions: Tensor, length: int, lanes: Sequence[Lane]) -> Tensor:
        """One token more for each row: (rows,) tokens at (rows,) positions, of which all that matter are below `length`.

        Rows are in the order of the lanes. Returns what goes into `logits`, shape (rows, channels).
        """
        seen = torch.arange(length, device=self.device) <= positions[:, None]
        mask = torch.zeros_like(seen, dtype=self.dtype).masked_fill_(~seen, -torch.inf)[:, None, None]
        sizes = [lane.rows for lane in lanes]
        numbers = [torch.arange(size, device=self.device) for size in sizes]
        places = list(zip(lanes, numbers, positions.split(sizes), mask.split(sizes), strict=True))
        x = self._embed(tokens[:, None], positions[:, None])
        for index, layer in enumerate(self._decoder):
            # (rows, 3, heads, 64)
            qkv = layer.qkv(layer.attn_ln(x)).view(len(x), 3, self.dims.n_text_head, -1)
            heard = []
            for (lane, rows, at, hidden), lane_qkv in zip(places, qkv.split(sizes), strict=True):
                kv = lane.self_kv.kv[2 * index : 2 * index + 2]
                kv[:, rows, :, at] = lane_qkv[:, 1:]
                keys, values = kv[:, :, :, :length]
                heard.append(attend(lane_qkv[:, 0, :, None], keys, values, hidden))
            x = x + layer.out(join_heads(_together(heard)))
            q = layer.cross_q(layer.cross_ln(x))
            heard = [
                self._listen(part, lane, index) for lane, part in zip(lanes, q.split(sizes), strict=True)
            ]
            x = x + layer.cross_out(_together(heard))
            x = x + layer.down(layer.up(layer.mlp_ln(x)))
        return x[:, 0]

    def logits(self, x: Tensor) -> Tensor:
        """(rows, channels) to float32 (rows, n_vocab)."""
        return self._vocabulary(self._ln(x))[..., : self.dims.n_vocab].float()

    def listen(self, tokens: Tensor, cross_kv: Cache) -> Iterator[Tensor]:
        """One text as a whole, shape (length,), and the window that it was heard in, a cache of one row.

        Yields the scores of its alignment heads before softmax, head by head, float32 (length, 1500); then its logits, float32
        (length, n_vocab).
        """
        x = self._embed(tokens[None], torch.arange(len(tokens), device=self.device))
        for index, layer in enumerate(self._decoder):
            q, k, v = self._qkv(layer, x)
            x = x + layer.out(join_heads(attend_among_themselves(q, k, v, causal=True)))
            q = split_heads(layer.cross_q(layer.cross_ln(x)), self.dims.n_text_head)
            keys, values = cross_kv.kv[2 * index], cross_kv.kv[2 * index + 1]
            scale = q.shape[-1] ** -0.25
            for head in (head for layer_of, head in self.alignment_heads if layer_of == index):
                yield ((q[0, head] * scale) @ (keys[0, head] * scale).T).float()
            x = x + layer.cross_out(join_heads(attend(q, keys, values)))
            x = x + layer.down(layer.up(layer.mlp_ln(x)))
        yield self.logits(x[0])

    def _embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        return (self._embedding[tokens].float() + self._positions[positions]).to(self.dtype)

    def _qkv(self, layer: _DecoderLayer, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = layer.qkv(layer.attn_ln(x)).chunk(3, dim=-1)
        heads = self.dims.n_text_head
        return split_heads(q, heads), split_heads(k, heads), split_heads(v, heads)

    def _listen(self, q: Tensor, lane: Lane, index: int) -> Tensor:
        """Cross-attention of a lane's (rows, 1, channels): the rows of a group are the queries of their window."""
        q = split_heads(q.view(-1, lane.group, q.shape[-1]), self.dims.n_text_head)
        heard = join_heads(attend(q, lane.cross_kv.kv[2 * index], lane.cross_kv.kv[2 * index + 1]))
        return heard.view(-1, 1, heard.shape[-1])


def _together(parts: Sequence[Tensor]) -> Tensor:
    """Rows of several lanes; those of one are not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


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
        return LayerNorm(self.table(f"{name}.weight"), self.table(f"{name}.bias"), self._dtype)

    def linear(self, name: str, *, gelu: bool = False) -> Linear:
        return Linear(self(f"{name}.weight"), self(f"{name}.bias"), gelu=gelu)

    def qkv(self, name: str) -> Linear:
        """Queries, keys and values in one product; keys have no bias."""
        weight = torch.cat([self(f"{name}.{part}.weight") for part in ("query", "key", "value")])
        query, value = self(f"{name}.query.bias"), self(f"{name}.value.bias")
        return Linear(weight, torch.cat([query, torch.zeros_like(query), value]))

    def kv(self, name: str) -> Linear:
        """Keys and values in one product."""
        weight = torch.cat([self(f"{name}.{part}.weight") for part in ("key", "value")])
        value = self(f"{name}.value.bias")
        return Linear(weight, torch.cat([torch.zeros_like(value), value]))

    def conv(self, name: str, *, stride: int) -> Callable[[Tensor], Tensor]:
        weight, bias = self(f"{name}.weight"), self(f"{name}.bias")
        return lambda x: F.conv1d(x, weight, bias, stride=stride, padding=1)
