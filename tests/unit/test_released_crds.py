"""The CRD keeps what its releases let into the store: nothing is lost, and every stored endpoint stays editable."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.crd_changes import changes

ROOT = Path(__file__).resolve().parents[2]
RELEASED = ROOT / "tests" / "cluster" / "released"
CURRENT = yaml.safe_load((ROOT / "crds" / "whisperendpoints.yaml").read_text())
Body = dict[str, Any]

KEYS = "a key with two dots in a row, which no object could have: no other part of the same {} can be changed before it is gone"
ACCEPTED: dict[str, dict[str, str]] = {
    "0.1.0": {
        "spec: rule: replicas and autoscaling exclude": "lets more through: a default must not contradict autoscaling",
        "spec.replicas: default None became 1": "the scale subresource needs a number; see the rule about autoscaling",
        "status: default None became": "says that nothing was observed, where nothing was: the operator writes it anew",
        "spec.resources: rule: resources.requests.cpu": "lets more through: what is no quantity is told of where it stands",
        "spec.resources: rule: resources.requests.memory": "lets more through, as for cpu",
        "spec.resources: rule: resources.requests.ephemeral-storage": "no pod could be made of it",
        "spec.additionalHosts[]: rule:": "no DNS name has such a part: no host can be added before it is gone",
        "spec.ingress: rule: sslPolicy, securityPolicy and": "lets more through: reserveStaticIP may be false",
        "spec.ingress.annotations: rule:": KEYS.format("annotations"),
        "spec.scheduling.nodeSelector: rule:": KEYS.format("selector"),
        "spec.scheduling.podLabels: rule:": KEYS.format("labels"),
        "spec.scheduling.podAnnotations: rule: there is a key": KEYS.format("annotations"),
        "spec.scheduling.podAnnotations: rule: podAnnotations can't": "pods of a Deployment can't be told apart by these",
        "spec.scheduling.tolerations[].key: maxLength": "no node has a taint with a longer key",
        "spec.scheduling.tolerations[].key: rule:": KEYS.format("list"),
        "spec.scheduling.tolerations[].operator: maxLength": "longer than every word that the enum let through",
        "spec.scheduling.tolerations[].operator: rule:": "the enum that it was, as a rule",
        "spec.scheduling.tolerations[].effect: maxLength": "longer than every word that the enum let through",
        "spec.scheduling.tolerations[].effect: rule:": "the enum that it was, as a rule",
    }
}
"""Changes since a release that Kubernetes does not, or not wholly, keep stored endpoints from, and why they may be. Each is tried
in tests/cluster/test_crd_upgrade.py, by an endpoint in the stored-RELEASE.yaml beside the release's CRD."""


def releases() -> list[str]:
    return sorted(path.stem.removeprefix("whisperendpoints-") for path in RELEASED.glob("whisperendpoints-*"))


def released(release: str) -> Body:
    found: Body = yaml.safe_load((RELEASED / f"whisperendpoints-{release}.yaml").read_text())
    return found


def test_the_first_release_is_among_them() -> None:
    assert "0.1.0" in releases()
    assert set(ACCEPTED) <= set(releases())


@pytest.mark.parametrize("release", releases())
def test_nothing_is_taken_away(release: str) -> None:
    """Where it fails: leave the field or value in, or give what is new a field of its own. docs/upgrades.md says why."""
    accepted = {f"v1alpha1.{change}" for change in ACCEPTED.get(release, ())}
    found = [str(each) for each in changes(released(release), CURRENT) if not each.ratchets]
    assert [each for each in found if not any(each.startswith(start) for start in accepted)] == []
    assert [start for start in accepted if not any(each.startswith(start) for each in found)] == []


def fields(schema: Body, path: str = "") -> Iterator[str]:
    for name, below in schema.get("properties", {}).items():
        yield (field := f"{path}.{name}")
        yield from fields(below.get("items", below), field)


def used(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from used(each, path)
    if isinstance(value, dict):
        for name, below in value.items():
            yield f"{path}.{name}"
            yield from used(below, f"{path}.{name}")


@pytest.mark.parametrize("release", releases())
def test_the_stored_endpoints_use_every_field_of_their_release(release: str) -> None:
    (version,) = released(release)["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    stored = yaml.safe_load_all((RELEASED / f"stored-{release}.yaml").read_text())
    assert set(fields(spec)) - {field for each in stored for field in used(each["spec"])} == set()
