"""What the tests of children are written in: specs to children, with live ones beside them."""

from typing import Any

from whisper_operator import manifests
from whisper_operator.config import Settings
from whisper_operator.kube.kinds import Kind
from whisper_operator.manifests import Manifest
from whisper_operator.observed.children import Child, Observed, Owner
from whisper_operator.spec.endpoint import parse

SETTINGS = Settings(server_repository="registry.example.com/whisper-server", server_version="1.2.3")
SCALED = {"autoscaling": {"min": 2, "max": 5, "targetInFlight": 6}}

Body = dict[str, Any]


def child(kind: Kind, name: str = "whisper", version: int = 7, **values: Any) -> Child:
    empty: dict[str, Any] = {"spec": {}, "status": {}, **values}
    owner = Owner("WhisperEndpoint", "whisper", "u-1")
    return Child(kind, "asr", name, f"{kind}{name}", version, 1, owner, False, "h", "{}", **empty)


def seen(*children: Child, optional: frozenset[Kind] = frozenset()) -> Observed:
    return Observed({(each.kind, each.name): each for each in children}, optional)


def declared(spec: Body, observed: Observed, settings: Settings = SETTINGS) -> tuple[Manifest, ...]:
    resource = {"metadata": {"name": "whisper", "namespace": "asr", "uid": "u-1"}, "spec": spec}
    return manifests.of(parse(resource, settings), observed, settings)


def made(spec: Body, observed: Observed | None = None, settings: Settings = SETTINGS) -> dict[str, Body]:
    """Bodies by KIND/NAME."""
    found = declared(spec, observed or Observed.nothing(), settings)
    return {f"{each.kind.name}/{each.name}": dict(each.body) for each in found}
