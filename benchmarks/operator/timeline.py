"""Where the time goes from `apply` to the last child: the median of so many endpoints, one at a time on an idle cluster.

    .venv/bin/python -m benchmarks.operator.timeline [ENDPOINTS]

Milliseconds after the API server's answer to the user, by its audit log: what lies between a request's arrival and its answer is
the API server's, what lies between an answer and the next request is the operator's.
"""

import asyncio
import statistics
import sys
from datetime import UTC, datetime

from whisper_operator.kube.kinds import ENDPOINT

from benchmarks.operator.load import NAMESPACE, Admin, resource
from devcluster import AuditEvent, Cluster
from devcluster.installation import USER, Operator, install

WARM_UP = 3
SETTLED_SECONDS = 5.0
_ENDPOINTS, _INGRESS = "whisper-operator.io/whisperendpoints", "networking.k8s.io/ingresses"
"""As the audit log names resources."""


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    rows = asyncio.run(_measure(number))
    print(f"{'ms after apply, median of ' + str(number):<62}  arrives  answered")
    for what in rows[0]:
        arrives, answered = (statistics.median(row[what][side] for row in rows) for side in (0, 1))
        print(f"{what:<62} {arrives:8.1f}  {answered:8.1f}")


async def _measure(number: int) -> list[dict[str, tuple[float, float]]]:
    with Cluster.start() as cluster:
        install(cluster)
        with Operator(cluster) as operator:
            operator.wait_until_working()
            async with Admin(cluster) as admin:
                rows = [await _one(cluster, admin, f"e{index}") for index in range(WARM_UP + number)]
    return rows[WARM_UP:]


async def _one(cluster: Cluster, admin: Admin, name: str) -> dict[str, tuple[float, float]]:
    start = datetime.now(UTC)
    await admin.apply(ENDPOINT.path(NAMESPACE, name), resource(name))
    await asyncio.sleep(SETTLED_SECONDS)
    events = cluster.audit(verbs=["get", "patch"], since=start)
    (applied, *_) = (event for event in events if event.resource == _ENDPOINTS and event.name == name)
    ours = [event for event in events if event.user == USER]
    looks = [event for event in ours if event.verb == "get"]
    writes = [event for event in ours if event.verb == "patch" and _ENDPOINTS not in event.resource]
    first = [event for event in writes if event.resource != _INGRESS]
    last = [event for event in writes if event.resource == _INGRESS]
    (told, *_) = (event for event in ours if event.resource == f"{_ENDPOINTS}/status")
    groups = {
        f"a look whether something has the names of {len(looks)} children": looks,
        f"{len(first)} children": first,
        "the Ingress, which names them": last,
        "the status": [told],
    }
    return {what: _span(group, applied.finished) for what, group in groups.items()}


def _span(events: list[AuditEvent], since: datetime) -> tuple[float, float]:
    """When the first of them arrived and the last was answered, in milliseconds."""
    first, last = min(event.time for event in events), max(event.finished for event in events)
    return ((first - since).total_seconds() * 1000, (last - since).total_seconds() * 1000)


if __name__ == "__main__":
    main()
