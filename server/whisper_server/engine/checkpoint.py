"""A model's weights as openai-whisper stores them: official ones by name, the demo's from this package, anyone's by path."""

import io
import lzma
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor
from whisper.model import ModelDimensions

from whisper_server.config import MODELS
from whisper_server.engine import download
from whisper_server.engine.alignment_heads import AlignmentHeads, alignment_heads, recognise
from whisper_server.engine.interface import LoadError, ModelInfo


@dataclass(frozen=True)
class Checkpoint:
    """One model."""

    dims: ModelDimensions
    state: Mapping[str, Tensor]
    """By openai-whisper's names, in the precision of the file; on the CPU, read from the file as they are used."""
    alignment_heads: AlignmentHeads

    def info(self, name: str) -> ModelInfo:
        """What it says of itself."""
        is_multilingual = self.dims.n_vocab >= 51865
        return ModelInfo(
            name=name,
            n_mels=self.dims.n_mels,
            n_audio_ctx=self.dims.n_audio_ctx,
            n_text_ctx=self.dims.n_text_ctx,
            is_multilingual=is_multilingual,
            num_languages=self.dims.n_vocab - 51765 - int(is_multilingual),
            is_turbo=is_turbo(self.dims.n_audio_layer, self.dims.n_text_layer),
        )


def load_checkpoint(model: str, directory: str | None) -> Checkpoint:
    """Return the weights of the model of that name or path; raises LoadError.

    An official model is looked for in `directory` (None: openai-whisper's cache) and downloaded to it if it isn't there.
    """
    try:
        if model == "demo":
            return read(io.BytesIO(demo_checkpoint()))
        if model in MODELS:
            return read(download.fetch(model, directory), official_name=model)
        if not Path(model).is_file():
            raise LoadError(f"WHISPER_MODEL={model}: no such file; mount it, or name an official model")
        return read(Path(model))
    except OSError as problem:
        raise download.unobtainable(model, problem) from problem
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, EOFError) as problem:
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise LoadError(f"WHISPER_MODEL={model}: not an openai-whisper checkpoint: {reason}") from problem


def read(file: Path | BinaryIO, official_name: str | None = None) -> Checkpoint:
    """Read a checkpoint. Raises what torch.load raises, and KeyError or TypeError for other content than a Whisper model."""
    # A file is mapped, not read: the weights go to the device piece by piece, and never lie in memory twice.
    raw = torch.load(file, map_location="cpu", weights_only=True, mmap=isinstance(file, Path) or None)
    dims = ModelDimensions(**raw["dims"])
    if official_name is None and isinstance(file, Path):
        official_name = recognise(file, dims)
    return Checkpoint(dims, raw["model_state_dict"], alignment_heads(dims, official_name))


def demo_checkpoint() -> bytes:
    """The demo model as a file of openai-whisper's."""
    return lzma.decompress(resources.files("whisper_server").joinpath("models/demo.pt.xz").read_bytes())


def is_turbo(encoder_layers: int, decoder_layers: int) -> bool:
    """Whether that is a large model with a few layers left of its decoder, as turbo is: such ones are trained to transcribe only.

    All other official models have as many layers on both sides.
    """
    return encoder_layers >= 32 and decoder_layers <= 4
