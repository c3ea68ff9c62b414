"""Where a model of CTranslate2 comes from: a directory that is one, or openai-whisper's weights, converted once."""

import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from whisper_server.config import MODELS
from whisper_server.engine import download
from whisper_server.engine.checkpoint import load_checkpoint
from whisper_server.engine.ctranslate2 import spec
from whisper_server.engine.interface import LoadError

_FILES = ("model.bin", "config.json")
_PREFIX, _FRESH, _OLD = ".converting-", "fresh", "old"
"""Of the directory that a conversion works in, and what it puts there: the new model, and the one before it."""
_ABANDONED_SECONDS = 86400
"""Age of such a directory that nobody works in any more: a conversion takes seconds, minutes on a slow volume."""


def find(model: str, model_dir: str | None, scratch: Path) -> Path:
    """The directory of the model of that name or path as CTranslate2 wants it; raises LoadError.

    What has to be converted is kept beside the weights; in `scratch`, where that can't be written.
    """
    source = Path(model)
    if source.is_dir():
        for name in _FILES:
            if not (source / name).is_file():
                raise LoadError(
                    f"WHISPER_MODEL={model}: there is no {name} in it; name a directory with a model of CTranslate2's, "
                    "or an openai-whisper checkpoint, which is a file"
                )
        return source
    kept = _place(model, model_dir)
    if kept is None:
        return _convert(model, model_dir, scratch / "model")
    _remove_abandoned(kept.parent)
    if _is_current(kept, source):
        return kept
    try:
        return _convert(model, model_dir, kept)
    except OSError:
        return _convert(model, model_dir, scratch / "model")


def preload(model: str, model_dir: str | None) -> str:
    """Fetch and convert a model, to be kept; returns a line that says what was done. Raises LoadError."""
    fetched = download.preload(model, model_dir)
    kept = _place(model, model_dir)
    if kept is None:
        return f"{fetched}; it is converted at each start, which takes a second"
    if _is_current(kept, Path(model)):
        return f"{model}: {kept} is there"
    try:
        return f"{model}: {_convert(model, model_dir, kept)}"
    except OSError as problem:
        raise LoadError(f"{model} can't be stored converted: {problem}; check WHISPER_MODEL_DIR") from problem


def _place(model: str, model_dir: str | None) -> Path | None:
    """Where a converted model is kept; the demo's is not."""
    if model == "demo":
        return None
    if model in MODELS:
        return download.directory_of_official(model_dir) / f"{model}-ctranslate2"
    return Path(model).with_suffix("").with_name(f"{Path(model).stem}-ctranslate2")


def _is_current(kept: Path, source: Path) -> bool:
    """Whether it is there, and no older than the checkpoint that it was made from, if there is one."""
    if not all((kept / name).is_file() for name in _FILES):
        return False
    return not source.is_file() or source.stat().st_mtime <= (kept / "model.bin").stat().st_mtime


def _convert(model: str, model_dir: str | None, place: Path) -> Path:
    """Convert to `place`, whole or not at all; raises OSError if that can't be written, and LoadError."""
    checkpoint = load_checkpoint(model, model_dir)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=_PREFIX) as folder:
        fresh = Path(folder) / _FRESH
        fresh.mkdir(mode=0o755)
        spec.write(checkpoint, fresh)
        if place.exists():
            place.rename(Path(folder) / _OLD)
        os.rename(fresh, place)
    return place


def _remove_abandoned(directory: Path) -> None:
    """Remove what conversions left that were killed; another server that shares the volume may be at one right now."""
    for folder in directory.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another server was faster, or the volume can't be written
            is_ours = {entry.name for entry in folder.iterdir()} <= {_FRESH, _OLD}
            if is_ours and time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(folder)
