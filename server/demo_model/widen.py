"""Give a small Whisper checkpoint the exact shape of an official model without changing what it computes.

usage, in server/: python -m demo_model.widen SMALL.pt OUT.pt tiny|base|small|medium|large-v2|turbo

Channels are tiled and identity layers added (as in Net2Net), so the logits stay equal up to rounding. The
result has the official model's operations and bytes and still stops where the speech stops: an honest load
for benchmarks where no official weights can be had. It keeps the small model's mels and vocabulary.
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Shape(NamedTuple):
    """Width in channels, and numbers of layers."""

    width: int
    encoder_layers: int
    decoder_layers: int


SHAPES = {
    "tiny": Shape(384, 4, 4),
    "base": Shape(512, 6, 6),
    "small": Shape(768, 12, 12),
    "medium": Shape(1024, 24, 24),
    "large-v2": Shape(1280, 32, 32),
    "turbo": Shape(1280, 32, 4),
}
HEAD_WIDTH = 64


def widen(checkpoint: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """Return a checkpoint of the given shape that computes what `checkpoint` computes, in float16."""
    dims = dict(checkpoint["dims"])
    factor, rest = divmod(shape.width, dims["n_audio_state"])
    if rest:
        raise ValueError(
            f"a width of {shape.width} is no multiple of the checkpoint's {dims['n_audio_state']}"
        )
    weights = {
        name: _tile(name, tensor.float(), factor) for name, tensor in checkpoint["model_state_dict"].items()
    }
    _deepen(weights, "encoder", dims["n_audio_layer"], shape.encoder_layers)
    _deepen(weights, "decoder", dims["n_text_layer"], shape.decoder_layers)
    heads = shape.width // HEAD_WIDTH
    dims |= {
        "n_audio_state": shape.width,
        "n_text_state": shape.width,
        "n_audio_head": heads,
        "n_text_head": heads,
        "n_audio_layer": shape.encoder_layers,
        "n_text_layer": shape.decoder_layers,
    }
    return {"dims": dims, "model_state_dict": {name: tensor.half() for name, tensor in weights.items()}}


def _tile(name: str, weight: Tensor, factor: int) -> Tensor:
    """Repeat channels `factor` times; where repeated channels come in, average over them."""
    if name.endswith("positional_embedding") or name == "decoder.token_embedding.weight":
        return weight.repeat(1, factor)
    if name == "encoder.conv1.weight":  # its inputs are mel bands, which are not repeated
        return weight.repeat(factor, 1, 1)
    if name.startswith("decoder.ln."):  # its outputs meet the repeated embedding in the logits
        return weight.repeat(factor) / factor
    if weight.dim() == 1:
        return weight.repeat(factor)
    return weight.repeat(factor, factor, *[1] * (weight.dim() - 2)) / factor


def _deepen(weights: dict[str, Tensor], side: str, have: int, want: int) -> None:
    """Append copies of the first block whose two residual branches write zero: identities."""
    first = {name: tensor for name, tensor in weights.items() if name.startswith(f"{side}.blocks.0.")}
    for layer in range(have, want):
        for name, tensor in first.items():
            silent = "attn.out." in name or "mlp.2." in name
            target = name.replace("blocks.0.", f"blocks.{layer}.")
            weights[target] = torch.zeros_like(tensor) if silent else tensor.clone()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("small", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("shape", choices=SHAPES)
    options = parser.parse_args()
    small = torch.load(options.small, map_location="cpu", weights_only=True)
    torch.save(widen(small, SHAPES[options.shape]), options.out)


if __name__ == "__main__":
    main()
