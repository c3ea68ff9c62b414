"""The test data of deploy/argocd's health check: endpoints as they were on a development cluster, and what health each has.

    pytest tests/cluster/test_faults.py tests/cluster/test_faults_of_installations.py tests/cluster/test_gitops.py --write-health

writes it; without that option the same tests fail where the operator says something else by now that health depends on. Argo CD
and Flux themselves judge the data in tests/ship.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.support import condition

CHECK = Path(__file__).resolve().parents[2].joinpath(
    *("deploy", "argocd", "resource_customizations", "whisper-operator.io", "WhisperEndpoint")
)  # fmt: skip
"""The folder, as Argo CD itself has one for each kind that it knows."""
TESTS = CHECK / "health_test.yaml"
HEAD = "# Written by the tests that bring about these states on a development cluster: see tests/cluster/health.py.\n"

NOT_SEEN = "The operator has not looked at this spec yet."
DELETED = "The endpoint is being deleted."

TIMES = {"lastTransitionTime", "deletionTimestamp"}
MADE_UP = re.compile(r"-[0-9a-f]{8}$")
"""How the names of namespaces end that are others in each run."""

Verdict = dict[str, str]
"""status and message."""


def cases() -> dict[str, Verdict]:
    """What health the objects in testdata have, by their path from the folder."""
    found = yaml.safe_load(TESTS.read_text()) if TESTS.exists() else {"tests": []}
    return {each["inputPath"]: each["healthStatus"] for each in found["tests"]}


class Recorder:
    """Keeps what a session's tests see, or holds it against what was kept."""

    def __init__(self, *, write: bool) -> None:
        self._write = write
        self._seen: dict[str, Verdict] = {}

    def note(self, name: str, resource: dict[str, Any], status: str) -> None:
        """`status`: the health that the endpoint has to have, by whoever knows what was done to it."""
        path = f"testdata/{name}.yaml"
        body = _portable(resource)
        if self._write:
            (CHECK / "testdata").mkdir(parents=True, exist_ok=True)
            (CHECK / path).write_text(yaml.safe_dump(body, sort_keys=False, width=130))
            self._seen[path] = {"status": status, "message": _message(body)}
            return
        kept = yaml.safe_load((CHECK / path).read_text())
        assert decisive(body) == decisive(kept), f"{path} is out of date: see {__name__}"
        assert cases()[path]["status"] == status

    def close(self) -> None:
        if self._seen:
            tests = [
                {"inputPath": path, "healthStatus": verdict}
                for path, verdict in sorted({**cases(), **self._seen}.items())
            ]
            TESTS.write_text(HEAD + yaml.safe_dump({"tests": tests}, sort_keys=False, width=130))


def decisive(resource: dict[str, Any]) -> tuple[object, ...]:
    """What tells an endpoint's health."""
    metadata = resource["metadata"]
    told = [condition(resource, kind) for kind in ("Ready", "Stalled")]
    return (
        "deletionTimestamp" in metadata,
        _is_current(resource),
        resource["spec"].get("suspend", False),
        *((each.get("status"), each.get("reason")) for each in told),
    )


def _is_current(resource: dict[str, Any]) -> bool:
    return bool(resource["status"].get("observedGeneration") == resource["metadata"]["generation"])


def _message(resource: dict[str, Any]) -> str:
    if "deletionTimestamp" in resource["metadata"]:
        return DELETED
    return str(condition(resource, "Ready")["message"]) if _is_current(resource) else NOT_SEEN


def _portable(resource: dict[str, Any]) -> dict[str, Any]:
    """Without the names and times of one run."""
    metadata = resource["metadata"]
    kept = {name: metadata[name] for name in ("name", "namespace", "generation")}
    if "deletionTimestamp" in metadata:
        kept |= {name: metadata[name] for name in ("deletionTimestamp", "finalizers")}
    body = {name: resource[name] for name in ("apiVersion", "kind", "spec", "status")}
    found: dict[str, Any] = _renamed({**body, "metadata": kept}, metadata["namespace"])
    order = ("apiVersion", "kind", "metadata", "spec", "status")
    return {name: found[name] for name in order}


def _renamed(part: Any, namespace: str) -> Any:
    if isinstance(part, dict):
        found = {name: _renamed(value, namespace) for name, value in part.items()}
        return found | dict.fromkeys(TIMES & found.keys(), "2026-01-01T00:00:00Z")
    if isinstance(part, list):
        return [_renamed(each, namespace) for each in part]
    if isinstance(part, str) and MADE_UP.search(namespace):
        return part.replace(f"{namespace}.example.com", "whisper.example.com").replace(namespace, "asr")
    return part
