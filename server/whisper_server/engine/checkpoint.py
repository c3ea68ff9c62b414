"""A model's weights as openai-whisper stores them, read without a model being built from them."""

import base64
import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
import whisper
from torch import Tensor
from whisper.model import ModelDimensions


@dataclass(frozen=True)
class Checkpoint:
    """One model."""

    dims: ModelDimensions
    state: Mapping[str, Tensor]
    """By openai-whisper's names, in the precision of the file; on the CPU, read from the file as they are used."""
    alignment_heads: tuple[tuple[int, int], ...]
    """(layer, head) of those cross-attentions that follow the speech in time."""


def read(file: Path | BinaryIO, official_name: str | None = None) -> Checkpoint:
    """Read a checkpoint. Raises what torch.load raises, and KeyError or TypeError for other content than a Whisper model."""
    # A file is mapped, not read: the weights go to the device piece by piece, and never lie in memory twice.
    raw = torch.load(file, map_location="cpu", weights_only=True, mmap=isinstance(file, Path) or None)
    dims = ModelDimensions(**raw["dims"])
    if official_name is None and isinstance(file, Path):
        official_name = _recognise(file)
    return Checkpoint(dims, raw["model_state_dict"], _alignment_heads(dims, official_name))


def _recognise(file: Path) -> str | None:
    """An official model's file is known by its SHA-256, which its download address contains."""
    wanted = {url.split("/")[-2]: name for name, url in whisper._MODELS.items()}
    if file.stat().st_size < 1 << 26:  # the smallest official file is larger
        return None
    with file.open("rb") as content:
        return wanted.get(hashlib.file_digest(content, "sha256").hexdigest())


def _alignment_heads(dims: ModelDimensions, official_name: str | None) -> tuple[tuple[int, int], ...]:
    """Of a model that nobody has measured: all heads of the upper half of the layers, as in openai-whisper."""
    shape = (dims.n_text_layer, dims.n_text_head)
    heads: Any = np.zeros(shape, bool)
    heads[dims.n_text_layer // 2 :] = True
    if official_name is not None:
        packed = whisper._ALIGNMENT_HEADS[official_name]
        heads = np.frombuffer(gzip.decompress(base64.b85decode(packed)), bool).reshape(shape)
    return tuple((int(layer), int(head)) for layer, head in zip(*heads.nonzero(), strict=True))
