"""CTranslate2's files: openai-whisper's weights written as one, as it converts those of the transformers library only, and how
many layers one has, which it does not tell."""

import re
import struct
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from ctranslate2.specs import WhisperSpec
from ctranslate2.specs.model_spec import LayerSpec
from torch import Tensor
from whisper.tokenizer import Tokenizer, get_tokenizer

from whisper_server.engine.checkpoint import Checkpoint


def write(checkpoint: Checkpoint, directory: Path) -> None:
    """Write model.bin, config.json and vocabulary.json into `directory`, in the checkpoint's precision: 8 bits are made of it at
    loading."""
    dims = checkpoint.dims
    # Of one precision: official files have some of their smallest weights in another one.
    dtype = checkpoint.state["decoder.token_embedding.weight"].dtype
    spec = WhisperSpec(dims.n_audio_layer, dims.n_audio_head, dims.n_text_layer, dims.n_text_head)
    weights = {name: tensor.to(dtype) for name, tensor in checkpoint.state.items()}
    _set_encoder(spec.encoder, weights)
    _set_decoder(spec.decoder, weights)
    chosen = _tokenizer(dims.n_vocab)
    spec.register_vocabulary(_vocabulary(chosen, dims.n_vocab))
    spec.config.suppress_ids = sorted(
        {*chosen.non_speech_tokens, chosen.transcribe, chosen.translate}
        | {chosen.sot, chosen.sot_prev, chosen.sot_lm, chosen.no_speech}
    )
    spec.config.suppress_ids_begin = [*chosen.encode(" "), chosen.eot]
    spec.config.lang_ids = list(chosen.all_language_tokens) if chosen.language else []
    spec.config.alignment_heads = [list(head) for head in checkpoint.alignment_heads]
    spec.validate()
    spec.optimize()
    spec.save(str(directory))


def _tokenizer(n_vocab: int) -> Tokenizer:
    is_multilingual = n_vocab >= 51865
    return get_tokenizer(is_multilingual, num_languages=n_vocab - 51765 - int(is_multilingual))


def _vocabulary(chosen: Tokenizer, n_vocab: int) -> list[str]:
    """Each token's name. Only special ones matter, whose numbers CTranslate2 finds by their names."""
    names = {token: f"<{token}>" for token in range(n_vocab)}
    names |= {number: name for name, number in chosen.special_tokens.items()}
    if chosen.language:
        names[chosen.eot - 1] = ""  # by which CTranslate2 knows a multilingual model
    return [names[token] for token in range(n_vocab)]


def _set_encoder(spec: LayerSpec, weights: Mapping[str, Tensor]) -> None:
    for name in ("conv1", "conv2"):
        _set_linear(getattr(spec, name), weights, f"encoder.{name}")
    spec.position_encodings.encodings = weights["encoder.positional_embedding"]
    _set_norm(spec.layer_norm, weights, "encoder.ln_post")
    for number, layer in enumerate(spec.layer):
        _set_block(layer, weights, f"encoder.blocks.{number}")


def _set_decoder(spec: LayerSpec, weights: Mapping[str, Tensor]) -> None:
    spec.embeddings.weight = weights["decoder.token_embedding.weight"]
    spec.projection.weight = weights["decoder.token_embedding.weight"]
    spec.position_encodings.encodings = weights["decoder.positional_embedding"]
    _set_norm(spec.layer_norm, weights, "decoder.ln")
    for number, layer in enumerate(spec.layer):
        prefix = f"decoder.blocks.{number}"
        _set_block(layer, weights, prefix)
        cross = layer.attention
        _set_norm(cross.layer_norm, weights, f"{prefix}.cross_attn_ln")
        _set_fused(cross.linear[0], weights, f"{prefix}.cross_attn", "query")
        _set_fused(cross.linear[1], weights, f"{prefix}.cross_attn", "key", "value")
        _set_linear(cross.linear[2], weights, f"{prefix}.cross_attn.out")


def _set_block(layer: LayerSpec, weights: Mapping[str, Tensor], prefix: str) -> None:
    own = layer.self_attention
    _set_norm(own.layer_norm, weights, f"{prefix}.attn_ln")
    _set_fused(own.linear[0], weights, f"{prefix}.attn", "query", "key", "value")
    _set_linear(own.linear[1], weights, f"{prefix}.attn.out")
    _set_norm(layer.ffn.layer_norm, weights, f"{prefix}.mlp_ln")
    _set_linear(layer.ffn.linear_0, weights, f"{prefix}.mlp.0")
    _set_linear(layer.ffn.linear_1, weights, f"{prefix}.mlp.2")


def _set_norm(spec: LayerSpec, weights: Mapping[str, Tensor], prefix: str) -> None:
    spec.gamma, spec.beta = weights[f"{prefix}.weight"], weights[f"{prefix}.bias"]


def _set_linear(spec: Any, weights: Mapping[str, Tensor], prefix: str) -> None:
    spec.weight, spec.bias = weights[f"{prefix}.weight"], weights[f"{prefix}.bias"]


def _set_fused(spec: Any, weights: Mapping[str, Tensor], prefix: str, *names: str) -> None:
    """Several projections of the same input as one; that of keys has no bias."""
    parts = [weights[f"{prefix}.{name}.weight"] for name in names]
    spec.weight = torch.cat(parts)
    zeros = torch.zeros(parts[0].shape[0], dtype=parts[0].dtype)
    spec.bias = torch.cat([weights.get(f"{prefix}.{name}.bias", zeros) for name in names])


def layers(model: Path) -> tuple[int, int]:
    """How many layers the encoder and the decoder have in a file model.bin, read from the names in it."""
    found: dict[str, int] = defaultdict(int)
    with model.open("rb") as file:
        (version,) = _unpack(file, "I")
        _name(file)  # of the kind of model
        _, variables = _unpack(file, "II")
        for _ in range(variables):
            if match := re.match(r"(encoder|decoder)/layer_(\d+)/", _name(file)):
                found[match[1]] = max(found[match[1]], int(match[2]) + 1)
            (dimensions,) = _unpack(file, "B")
            file.seek(4 * dimensions, 1)
            kind, size = _unpack(file, "BI")
            file.seek(size if version >= 4 else kind * size, 1)
    return found["encoder"], found["decoder"]


def _name(file: BinaryIO) -> str:
    (length,) = _unpack(file, "H")
    return file.read(length).rstrip(b"\0").decode()


def _unpack(file: BinaryIO, format: str) -> tuple[int, ...]:
    """Numbers that follow each other in the file without gaps."""
    return struct.unpack(f"<{format}", file.read(struct.calcsize(f"<{format}")))
