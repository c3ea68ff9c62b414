"""What requests may take of a replica, and what a replica takes of a node."""

from collections.abc import Mapping
from dataclasses import dataclass

from whisper_operator.spec.fields import Fields
from whisper_operator.spec.quantity import in_bytes
from whisper_operator.spec.weights import ModelVolume

GIB = 1 << 30


@dataclass(frozen=True)
class Limits:
    """What the server takes; see the CRD for each."""

    max_upload_bytes: int = 25 << 20
    max_audio_seconds: int = 7200
    max_queue: int = 32
    request_timeout_seconds: int = 600


@dataclass(frozen=True)
class Resources:
    """Kubernetes quantities by resource name, without the GPU."""

    requests: Mapping[str, str]
    limits: Mapping[str, str]
    scratch: str
    """What /tmp may hold: all of the ephemeral-storage that was asked for, else the part that is not for weights."""


def limits(raw: Fields) -> Limits:
    base = Limits()
    return Limits(
        max_upload_bytes=raw.number("maxUploadBytes", base.max_upload_bytes),
        max_audio_seconds=raw.number("maxAudioSeconds", base.max_audio_seconds),
        max_queue=raw.number("maxQueue", base.max_queue),
        request_timeout_seconds=raw.number("requestTimeoutSeconds", base.request_timeout_seconds),
    )


def resources(raw: Fields, bounds: Limits, weights: ModelVolume | None, copy: int) -> Resources:
    """Requests; and limits equal to them, but for the CPU, which needs none: idle cycles are nobody's loss.

    `copy` is what an engine's own copy of the weights takes of /tmp, in bytes.
    """
    names = ("cpu", "memory", "ephemeral-storage")
    given = {name: raw.sub("requests").quantity(name) for name in names}
    capped = {name: raw.sub("limits").quantity(name) for name in names}
    # Every request of a full queue may lie in /tmp as an upload; 1 GiB more is for caches and logs.
    uploads = bounds.max_upload_bytes * (bounds.max_queue + 1)
    scratch = -(-(uploads + copy + GIB) // GIB)
    room = in_bytes(weights.size) if weights and weights.size else 0
    base = {"cpu": "4", "memory": "24Gi", "ephemeral-storage": f"{scratch + -(-room // GIB)}Gi"}
    requests = {name: given[name] or capped[name] or base[name] for name in names}
    uncapped = {name: None if name == "cpu" else requests[name] for name in names}
    wanted = {name: capped[name] or uncapped[name] for name in names}
    storage = wanted["ephemeral-storage"] or ""
    if room and in_bytes(storage) <= room:
        raise ValueError(
            f"{raw.path}: ephemeral-storage {storage} leaves no room beside the weights, for which "
            f"spec.modelVolume.emptyDir.sizeLimit sets {weights and weights.size} aside: raise the former, or leave it out"
        )
    own = given["ephemeral-storage"] or capped["ephemeral-storage"]
    return Resources(
        requests,
        {name: value for name, value in wanted.items() if value is not None},
        scratch=storage if own else f"{scratch}Gi",
    )
