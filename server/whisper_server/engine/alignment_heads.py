"""Which of a model's attention heads follow the speech in time: words get their times from those.

openai-whisper has a table of them for its official models, by name. A file that was given by its path may be one of those too,
which its SHA-256 tells. Reading all of it for that takes seconds at each start, so what was found is kept, beside the file or,
where that can't be written, in the user's cache.
"""

import base64
import gzip
import hashlib
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import whisper
from numpy.typing import NDArray
from whisper.model import ModelDimensions

from whisper_server.engine.download import cache_directory

AlignmentHeads = tuple[tuple[int, int], ...]
"""(layer, head) each, of cross-attention."""


def alignment_heads(dims: ModelDimensions, official_name: str | None) -> AlignmentHeads:
    """Those of an official model; of one that nobody has measured all of the upper half of the layers, as in openai-whisper."""
    heads: NDArray[np.bool_] = np.zeros((dims.n_text_layer, dims.n_text_head), bool)
    heads[dims.n_text_layer // 2 :] = True
    if official_name is not None:
        heads = _table(official_name).reshape(heads.shape)
    return tuple((int(layer), int(head)) for layer, head in zip(*heads.nonzero(), strict=True))


def recognise(file: Path, dims: ModelDimensions) -> str | None:
    """The name of the official model whose file this is, if it is one. Raises OSError."""
    # Its SHA-256 is part of its download address.
    candidates = {
        whisper._MODELS[name].split("/")[-2]: name for name in whisper._MODELS if _could_be(name, dims)
    }
    return candidates.get(_sha256(file)) if candidates else None


def _could_be(name: str, dims: ModelDimensions) -> bool:
    right_language = name.endswith(".en") == (dims.n_vocab == 51864)
    return right_language and bool(len(_table(name)) == dims.n_text_layer * dims.n_text_head)


def _table(name: str) -> NDArray[np.bool_]:
    return np.frombuffer(gzip.decompress(base64.b85decode(whisper._ALIGNMENT_HEADS[name])), bool)


def _sha256(file: Path) -> str:
    """Computed once for a file that stays as it is."""
    state = file.stat()
    version = [state.st_size, state.st_mtime_ns]
    elsewhere = hashlib.sha256(str(file.absolute()).encode()).hexdigest()
    kept = (file.with_name(f".{file.name}.sha256.json"), cache_directory() / "whisper-server" / elsewhere)
    for place in kept:
        with suppress(OSError, ValueError, TypeError, KeyError):
            found = json.loads(place.read_text())
            if found["version"] == version:
                return str(found["sha256"])
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    for place in kept:
        with suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(json.dumps({"version": version, "sha256": digest}))
            break
    return digest
