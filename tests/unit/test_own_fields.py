"""The operator's domain is every field that any spec could have it write, but for those that are named here."""

import re
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml
from whisper_operator.apply import ownership
from whisper_operator.kube.kinds import COMPUTE_ADDRESS, POD_MONITOR, POD_MONITORING
from whisper_operator.observed.children import Observed
from whisper_operator.observed.managed_fields import paths

from tests.unit.making import declared

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
KINDS = Observed(optional=frozenset({POD_MONITORING, POD_MONITOR}))

SPECS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "cpu": {"device": "cpu", "replicas": 2, "rollout": "Recreate"},
    "internal": {
        "host": "a.example.com",
        "staticIPName": "a",
        "ingress": {"class": "gce-internal"},
    },
    "everything": yaml.safe_load((EXAMPLES / "complete.yaml").read_text())["spec"],
    "capped": {
        "resources": {"limits": {"cpu": "8"}},
        "computeType": "float16",
        "defaults": {"language": "de"},
    },
    "traefik": {"host": "t.example.com", "ingress": {"class": "traefik", "tls": {"secretName": "s"}}},
    "shared": {"host": "b.example.com", "ingress": {"tls": {"preSharedCert": "c"}, "httpsRedirect": True}},
    "policy": {"host": "p.example.com", "ingress": {"sslPolicy": "p"}},
    "volume": {"modelVolume": {"persistentVolumeClaim": {"claimName": "w"}}, "auth": {"secretName": "k"}},
    "download": {"modelVolume": {"emptyDir": {"sizeLimit": "9Gi"}}, "autoscaling": {"min": 1, "max": 3}},
}

ANY_NAME = re.compile(
    r"metadata\.(labels|annotations)\.|spec\.template\.metadata\.annotations(\.|$)|\.env\[(?!WHISPER_)"
    r"|^metadata\.annotations$|^spec\.template\.metadata\.annotations$"
)
"""Labels, annotations and variables whose names users choose."""
NOT_OURS_ALONE = {
    "spec.replicas",  # an autoscaler's where it is not declared
    "spec.securityPolicy",
    "spec.sslPolicy",
}


def leaves(value: Any, above: str = "") -> Iterator[str]:
    """A manifest's fields in the words of ownership; lists whose entries have no name count as a whole."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from leaves(item, f"{above}.{name}" if above else name)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        keys = next((key for key in ("mountPath", "containerPort", "name") if key in value[0]), None)
        if keys is None:
            yield above
        for item in value if keys else ():
            yield from leaves(item, f"{above}[{item[keys]}]")
    else:
        yield above


@pytest.mark.parametrize(("one", "other"), list(permutations(SPECS, 2)))
def test_what_one_spec_writes_and_another_does_not_is_the_domain_s(one: str, other: str) -> None:
    written = {(each.kind, each.name): each for each in declared(SPECS[one], KINDS)}
    for wanted in declared(SPECS[other], KINDS):
        before = written.get((wanted.kind, wanted.name))
        if before is None or wanted.kind is COMPUTE_ADDRESS:
            continue
        left = set(leaves(dict(before.body))) - set(leaves(dict(wanted.body)))
        nodes = {
            path
            for path in left
            if any(each.startswith((f"{path}.", f"{path}[")) for each in leaves(dict(wanted.body)))
        }
        taken = tuple(paths(ownership.leftovers(wanted, before.body)))
        missed = {
            path
            for path in left - nodes
            if not path.startswith(taken)
            and not ANY_NAME.search(path)
            and path not in NOT_OURS_ALONE
            and not any(path.startswith(f"{each}.") for each in NOT_OURS_ALONE)
        }
        assert missed == set(), f"{wanted.kind.name} of {other!r} after {one!r}"
