"""What Argo CD and Flux make of an endpoint in every state: the health check in Argo CD's Lua, kstatus in Flux's library."""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from tests.cluster.health import CHECK, DELETED, NOT_SEEN, Verdict, cases
from tests.ship.programs import program

FLUX = {"Healthy": "Current", "Suspended": "Current", "Degraded": "Failed", "Progressing": "InProgress"}
"""What kstatus says of an endpoint, by its health. A suspended one is as it was asked to be."""


def judged(command: Iterable[str | Path], objects: Iterable[Path]) -> dict[Path, Verdict]:
    """What a program says of each object: status and message."""
    done = subprocess.run([*command, *objects], capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each for each in found if "error" in each] == []
    return {Path(each.pop("input")): each for each in found}


def argocd(objects: Iterable[Path]) -> dict[Path, Verdict]:
    return judged([program("argocd-health"), CHECK / "health.lua"], objects)


def kstatus(objects: Iterable[Path]) -> dict[Path, Verdict]:
    return judged([program("kstatus")], objects)


def test_argo_cd_says_what_health_test_yaml_says() -> None:
    expected = {CHECK / path: verdict for path, verdict in cases().items()}
    assert argocd(expected) == expected


def test_flux_says_the_same_in_its_own_words() -> None:
    expected = {CHECK / path: verdict for path, verdict in cases().items()}
    deleted = {path for path, verdict in expected.items() if verdict["message"] == DELETED}
    assert deleted
    for path, found in kstatus(expected).items():
        assert found["status"] == ("Terminating" if path in deleted else FLUX[expected[path]["status"]]), path


def test_every_state_of_health_is_among_them() -> None:
    assert {verdict["status"] for verdict in cases().values()} == set(FLUX)
    assert {str(path.relative_to(CHECK)) for path in CHECK.glob("testdata/*")} == set(cases())


@pytest.mark.parametrize(
    "status",
    [
        "absent",
        None,
        {},
        {"conditions": None, "observedGeneration": 3},
        {"conditions": [], "observedGeneration": 3},
        {"conditions": [{"type": "Available", "status": "True"}], "observedGeneration": 3},
        {"conditions": [{"type": "Ready", "status": "True"}]},
        {"conditions": [{"type": "Ready", "status": "True"}], "observedGeneration": 2},
        {"conditions": [{"type": "Stalled", "status": "True"}], "observedGeneration": 2},
    ],
)
def test_a_status_that_says_nothing_of_this_spec_is_progressing(tmp_path: Path, status: object) -> None:
    """As one that another tool restored, or that an older CRD let be absent; the health check never fails on one."""
    body = {"kind": "WhisperEndpoint", "metadata": {"name": "whisper", "generation": 3}, "spec": {}}
    path = tmp_path / "endpoint.yaml"
    path.write_text(yaml.safe_dump(body if status == "absent" else {**body, "status": status}))
    assert argocd([path]) == {path: {"status": "Progressing", "message": NOT_SEEN}}


def test_a_ready_endpoint_is_unhealthy_in_no_words_but_its_own(tmp_path: Path) -> None:
    """Whoever breaks the check sees it here: each decisive field, changed alone, changes the health."""
    ready = yaml.safe_load((CHECK / "testdata" / "ready.yaml").read_text())
    conditions = {each["type"]: each for each in ready["status"]["conditions"]}
    path = tmp_path / "endpoint.yaml"

    def health() -> str:
        path.write_text(yaml.safe_dump(ready))
        return argocd([path])[path]["status"]

    assert health() == "Healthy"
    conditions["Ready"]["reason"] = "Suspended"
    assert health() == "Suspended"
    conditions["Ready"]["status"] = "Unknown"
    assert health() == "Progressing"
    stalled = {**conditions["Ready"], "type": "Stalled", "status": "False"}
    ready["status"]["conditions"].append(stalled)
    assert health() == "Progressing"
    stalled["status"] = "True"
    assert health() == "Degraded"
    ready["status"]["observedGeneration"] += 1
    assert health() == "Progressing"
