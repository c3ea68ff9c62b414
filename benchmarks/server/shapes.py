"""The demo model's weights in the size of an official model: it costs what that one does, and hears what the demo model does."""

import io
from pathlib import Path

import torch
from demo_model.widen import SHAPES, widen
from whisper_server.engine.checkpoint import demo_checkpoint, read
from whisper_server.engine.ctranslate2 import spec

__all__ = ["SHAPES", "ctranslate2", "openai_whisper"]


def openai_whisper(shape: str, folder: Path) -> Path:
    """openai-whisper's file of that shape, made in `folder`."""
    small = torch.load(io.BytesIO(demo_checkpoint()), map_location="cpu", weights_only=True)
    torch.save(widen(small, SHAPES[shape]), folder / f"{shape}.pt")
    return folder / f"{shape}.pt"


def ctranslate2(file: Path) -> Path:
    """CTranslate2's directory made of it, beside it."""
    converted = file.with_suffix("")
    converted.mkdir()
    spec.write(read(file), converted)
    return converted
