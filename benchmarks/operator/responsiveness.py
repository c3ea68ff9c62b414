"""How soon the operator acts: from `apply` to the last child, and from damage to its repair.

    .venv/bin/python -m benchmarks.operator.responsiveness [ROUNDS]

One endpoint at a time on an otherwise idle development cluster. Times are the API server's own, from its audit log: from the
answer to the user's request until the operator's request that sets it right arrives.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from devcluster import AuditEvent, Cluster
from devcluster.installation import USER, WRITES, Operator, install

CHILDREN = {
    "cloud.google.com/backendconfigs": {"spec": {"timeoutSec": 30}},
    "services": {"spec": {"selector": {"whisper-operator.io/endpoint": "x"}}},
    "apps/deployments": {"spec": {"template": {"spec": {"enableServiceLinks": True}}}},
    "networking.gke.io/managedcertificates": {"spec": {"domains": ["other.example.com"]}},
    "networking.k8s.io/ingresses": {"spec": {"rules": [{"host": "other.example.com"}]}},
}
"""By resource as the audit log names it: an edit to be put right."""


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    times: dict[str, list[float]] = {}
    with Cluster.start() as cluster:
        install(cluster)
        with Operator(cluster) as operator:
            operator.wait_until_working()
            for index in range(rounds):
                name = f"e{index}"
                for what, seconds in _round(cluster, name).items():
                    times.setdefault(what, []).append(seconds)
    print(f"{'seconds, ' + str(rounds) + ' rounds':<58}   median      max")
    for what, found in times.items():
        print(f"{what:<58} {statistics.median(found):8.3f} {max(found):8.3f}")


def _round(cluster: Cluster, name: str) -> dict[str, float]:
    """Apply one endpoint, edit and delete each of its children, delete it; seconds by what was done."""
    found: dict[str, float] = {}
    resource = {
        "apiVersion": "whisper-operator.io/v1alpha1",
        "kind": "WhisperEndpoint",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"host": f"{name}.example.com"},
    }
    applied = _do(cluster, "whisperendpoints", partial(cluster.apply, resource))
    last = max(_answer(cluster, applied, child).time for child in CHILDREN)
    found["apply to the last of five children"] = (last - applied).total_seconds()
    ready = ("wait", f"wep/{name}", "--for=condition=Ready", "--timeout=60s")
    cluster.kubectl(*ready)
    for child, edit in CHILDREN.items():
        plural = child.rpartition("/")[2]
        live = cluster.get(plural, "-l", f"whisper-operator.io/endpoint={name}")["items"][0]["metadata"][
            "name"
        ]
        patch = ("patch", plural, live, "--type=merge", "-p", json.dumps(edit))
        edited = _do(cluster, plural, partial(cluster.kubectl, *patch))
        found[f"edit of {child} to its repair"] = (
            _answer(cluster, edited, child).time - edited
        ).total_seconds()
        cluster.kubectl(*ready)
    for child in ("services", "apps/deployments", "cloud.google.com/backendconfigs"):
        delete = ("delete", child.rpartition("/")[2], name)
        deleted = _do(cluster, child, partial(cluster.kubectl, *delete))
        found[f"deletion of {child} to a new one"] = (
            _answer(cluster, deleted, child).time - deleted
        ).total_seconds()
        cluster.kubectl(*ready)
    cluster.kubectl("delete", "wep", name)
    return found


def _do(cluster: Cluster, resource: str, action: Callable[[], Any]) -> datetime:
    """Act as administrator; when the API server took the request."""
    before = len(cluster.audit(verbs=WRITES))
    action()
    events = cluster.audit(verbs=WRITES)[before:]
    mine = [event for event in events if event.user != USER and resource in event.resource]
    return mine[0].time


def _answer(cluster: Cluster, since: datetime, resource: str) -> AuditEvent:
    """The operator's first write of that resource after a moment."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for event in cluster.audit(user=USER, verbs=WRITES, since=since):
            if event.resource == resource:
                return event
        time.sleep(0.02)
    raise SystemExit(f"no answer of the operator about {resource}")


if __name__ == "__main__":
    main()
