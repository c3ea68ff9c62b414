"""Where a model's weights come from when they are not in the image, and the room they take on a node."""

import re
from dataclasses import dataclass

from whisper_operator.spec.fields import Fields
from whisper_operator.spec.quantity import in_bytes

MIB = 1 << 20

FILE_MIB = {"tiny": 75, "base": 140, "small": 465, "medium": 1460, "large": 2950, "turbo": 1550}
"""openai-whisper's files, rounded up, by the first part of a model's name."""


@dataclass(frozen=True)
class ModelVolume:
    """A volume for weights: exactly one of the two."""

    claim: str | None
    """An existing PersistentVolumeClaim of the endpoint's namespace."""
    size: str | None
    """Of an emptyDir, which each pod fills with the model at its start."""


def volume(raw: Fields, model: str) -> ModelVolume:
    """The volume that spec.modelVolume describes. Raises ValueError if the model can't fit into it."""
    claim = raw.sub("persistentVolumeClaim").text("claimName")
    size = raw.sub("emptyDir").quantity("sizeLimit")
    if (claim is None) == (size is None):
        raise ValueError(f"{raw.path} takes exactly one of persistentVolumeClaim and emptyDir")
    needed = _file_mib(model)
    if size is not None and in_bytes(size) < needed * MIB:
        raise ValueError(
            f"{raw.path}.emptyDir.sizeLimit {size} is too small for {model}, which takes {needed}Mi: make it larger"
        )
    return ModelVolume(claim, size)


def copy_bytes(model: str, engine: str) -> int:
    """What a copy of the weights in the engine's own format takes, where it needs one; of one's own model, at most."""
    if engine != "faster-whisper":
        return 0
    return _file_mib(model, unknown=max(FILE_MIB.values())) * MIB


def _file_mib(model: str, *, unknown: int = 0) -> int:
    """The size of an official model's file; the demo's is part of the server."""
    return 0 if model == "demo" else FILE_MIB.get(re.split(r"[-.]", model)[0], unknown)
