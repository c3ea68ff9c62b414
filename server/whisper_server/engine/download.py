"""Official models' files: where they lie, and how they get there."""

import os
from pathlib import Path
from urllib.error import URLError

import whisper

from whisper_server.config import MODELS
from whisper_server.engine.interface import LoadError


def fetch(model: str, directory: str | None) -> Path:
    """The file of an official model, downloaded if it isn't there and checked against its published SHA-256.

    `directory` None is openai-whisper's cache. Raises OSError, and RuntimeError where what was downloaded is something else.
    """
    root = str(directory_of_official(directory))
    return Path(whisper._download(whisper._MODELS[model], root, in_memory=False))


def preload(model: str, directory: str | None) -> str:
    """Fetch an official model into `directory` without loading it; returns a line that says what was done.

    For building an image with the weights in it. The demo model needs no fetching, a path is only checked to be there.
    Raises LoadError.
    """
    if model == "demo":
        return "demo: part of the package, nothing to fetch"
    if model not in MODELS:
        if not Path(model).is_file():
            raise LoadError(f"{model}: there is no such file")
        return f"{model}: is there"
    try:
        path = fetch(model, directory)
    except OSError as problem:
        raise unobtainable(model, problem) from problem
    except RuntimeError as problem:
        raise LoadError(f"{model}: {problem}") from problem
    return f"{model}: {path}"


def directory_of_official(directory: str | None) -> Path:
    """Where official models lie: `directory`, or the default of openai-whisper's own load_model."""
    return Path(directory or cache_directory() / "whisper")


def cache_directory() -> Path:
    """The user's, as openai-whisper finds it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def unobtainable(model: str, problem: OSError) -> LoadError:
    """What to say of a model's file that can't be had."""
    if isinstance(problem, URLError):
        return LoadError(
            f"{model} is not in WHISPER_MODEL_DIR and can't be downloaded ({problem.reason}); "
            f"allow the download, or put it there beforehand with: whisper-server --preload {model}"
        )
    return LoadError(f"{model} can't be read or stored: {problem}; check WHISPER_MODEL_DIR")
