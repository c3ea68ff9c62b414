"""A model's weights: official ones by name, the demo's from this package, anyone's by path."""

import io
import lzma
import os
import pickle
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import whisper

from whisper_server.config import MODELS
from whisper_server.engine import LoadError


def load(model: str, device: str, directory: str | None) -> Any:
    """Return the `whisper.model.Whisper` named `model` on `device`; raises LoadError.

    An official model is looked for in `directory` (None: openai-whisper's cache) and downloaded to it if it
    isn't there.
    """
    if model == "demo":
        return _from_checkpoint(_demo_checkpoint()).to(device)
    if model not in MODELS:
        if not Path(model).is_file():
            raise LoadError(f"WHISPER_MODEL={model}: no such file; mount it, or name an official model")
        directory = None
    try:
        return whisper.load_model(model, device=device, download_root=directory)
    except OSError as problem:
        raise _unobtainable(model, problem) from problem
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, EOFError) as problem:
        if isinstance(problem, torch.OutOfMemoryError):
            raise
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise LoadError(f"WHISPER_MODEL={model}: not an openai-whisper checkpoint: {reason}") from problem


def preload(model: str, directory: str | None) -> str:
    """Fetch an official model into `directory` without loading it; returns a line that says what was done.

    For building an image with the weights in it. The file is checked against its published SHA-256. The demo
    model needs no fetching, a path is only checked to be there. Raises LoadError.
    """
    if model == "demo":
        return "demo: part of the package, nothing to fetch"
    if model not in MODELS:
        if not Path(model).is_file():
            raise LoadError(f"{model}: there is no such file")
        return f"{model}: is there"
    # load_model() would do as well, but needs three times the model's size of memory, which machines that
    # build images often lack.
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = directory or str(Path(cache) / "whisper")  # the default of load_model
    try:
        path = whisper._download(whisper._MODELS[model], root, in_memory=False)
    except OSError as problem:
        raise _unobtainable(model, problem) from problem
    except RuntimeError as problem:
        raise LoadError(f"{model}: {problem}") from problem
    return f"{model}: {path}"


def _demo_checkpoint() -> dict[str, Any]:
    packed = resources.files("whisper_server").joinpath("models/demo.pt.xz").read_bytes()
    file = io.BytesIO(lzma.decompress(packed))
    checkpoint: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return checkpoint


def _from_checkpoint(checkpoint: dict[str, Any]) -> Any:
    model = whisper.model.Whisper(whisper.model.ModelDimensions(**checkpoint["dims"]))
    model.load_state_dict(checkpoint["model_state_dict"])
    return model


def _unobtainable(model: str, problem: OSError) -> LoadError:
    if isinstance(problem, URLError):
        return LoadError(
            f"{model} is not in WHISPER_MODEL_DIR and can't be downloaded ({problem.reason}); "
            f"allow the download, or put it there beforehand with: whisper-server --preload {model}"
        )
    return LoadError(f"{model} can't be read or stored: {problem}; check WHISPER_MODEL_DIR")
