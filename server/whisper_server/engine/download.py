"""A model's weights: official ones by name, the demo's from this package, anyone's by path."""

import io
import lzma
import os
import pickle
from importlib import resources
from pathlib import Path
from urllib.error import URLError

import whisper

from whisper_server.config import MODELS
from whisper_server.engine import checkpoint
from whisper_server.engine.checkpoint import Checkpoint
from whisper_server.engine.interface import LoadError


def load(model: str, directory: str | None) -> Checkpoint:
    """Return the weights of the model of that name; raises LoadError.

    An official model is looked for in `directory` (None: openai-whisper's cache) and downloaded to it if it
    isn't there.
    """
    try:
        if model == "demo":
            return checkpoint.read(io.BytesIO(demo_checkpoint()))
        if model in MODELS:
            return checkpoint.read(Path(_fetch(model, directory)), official_name=model)
        if not Path(model).is_file():
            raise LoadError(f"WHISPER_MODEL={model}: no such file; mount it, or name an official model")
        return checkpoint.read(Path(model))
    except OSError as problem:
        raise _unobtainable(model, problem) from problem
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, EOFError) as problem:
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
    try:
        path = _fetch(model, directory)
    except OSError as problem:
        raise _unobtainable(model, problem) from problem
    except RuntimeError as problem:
        raise LoadError(f"{model}: {problem}") from problem
    return f"{model}: {path}"


def _fetch(model: str, directory: str | None) -> str:
    """The path of an official model's file, downloaded if it isn't there; raises OSError, RuntimeError."""
    root = str(directory_of_official(directory))
    path: str = whisper._download(whisper._MODELS[model], root, in_memory=False)
    return path


def directory_of_official(directory: str | None) -> Path:
    """Where official models lie: `directory`, or the default of openai-whisper's own load_model."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(directory or Path(cache) / "whisper")


def demo_checkpoint() -> bytes:
    """The demo model as a file of openai-whisper's."""
    return lzma.decompress(resources.files("whisper_server").joinpath("models/demo.pt.xz").read_bytes())


def _unobtainable(model: str, problem: OSError) -> LoadError:
    if isinstance(problem, URLError):
        return LoadError(
            f"{model} is not in WHISPER_MODEL_DIR and can't be downloaded ({problem.reason}); "
            f"allow the download, or put it there beforehand with: whisper-server --preload {model}"
        )
    return LoadError(f"{model} can't be read or stored: {problem}; check WHISPER_MODEL_DIR")
