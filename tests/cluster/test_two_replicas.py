"""Two replicas, as processes of their own: one writes, the other takes over, and nothing is written twice."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from typing import Any

import pytest

from devcluster import Cluster
from devcluster.faults import FaultProxy
from devcluster.installation import Operator
from tests.cluster.support import (
    LEASES,
    endpoint,
    exists,
    now,
    patch,
    until,
    wait_for_condition,
    wait_until_quiet,
    writes,
)

LEASE = 'kind="Lease"'
DEATH_SECONDS = 15.0
CLEAN_SECONDS = 2.0


class Pair:
    """Two replicas, each with a way of its own to the API server."""

    def __init__(self, cluster: Cluster, stack: ExitStack) -> None:
        self.cluster = cluster
        self.proxies = {name: stack.enter_context(FaultProxy(cluster)) for name in ("one", "two")}
        self.operators = {
            name: stack.enter_context(Operator(cluster, name=name, server=proxy.url))
            for name, proxy in self.proxies.items()
        }

    def leader(self) -> str:
        return until(self._leader, "one of two leads")

    def _leader(self) -> str | None:
        leading = [name for name, each in self.operators.items() if _is_leader(each)]
        return leading[0] if len(leading) == 1 else None

    def other(self, name: str) -> str:
        return "two" if name == "one" else "one"

    def wait_until_warm(self, name: str) -> None:
        until(lambda: _ready(self.operators[name]), f"{name} ready")


def _is_leader(operator: Operator) -> bool:
    try:
        return operator.metric("whisper_operator_leader") == 1.0
    except OSError:
        return False


def _ready(operator: Operator) -> bool:
    try:
        return operator.ask("/readyz")[0] == 200
    except OSError:
        return False


@pytest.fixture
def pair(installed: Cluster) -> Iterator[Pair]:
    with ExitStack() as stack:
        made = Pair(installed, stack)
        for name in made.operators:
            made.wait_until_warm(name)
        made.leader()
        yield made


def settled(cluster: Cluster, namespace: str, count: int = 3) -> list[str]:
    names = [f"e{each}" for each in range(count)]
    cluster.apply(*(endpoint(each, namespace, device="cpu") for each in names))
    for each in names:
        wait_for_condition(cluster, namespace, each)
    wait_until_quiet(cluster)
    return names


def written_once(cluster: Cluster, since: datetime, namespace: str) -> Counter[tuple[str, str, str]]:
    """Writes of children that the API server took, by verb, kind and name: none of them came more than once."""
    found = Counter(
        (event.verb, event.resource, event.name)
        for event in writes(cluster, since, namespace)
        if event.code < 300
        and event.resource not in ("events", "whisper-operator.io/whisperendpoints/status")
    )
    assert {what: number for what, number in found.items() if number > 1} == {}
    return found


def own_complaints(operator: Operator) -> list[dict[str, Any]]:
    """But for asyncio's own, of watches that kopf leaves open when it ends."""
    return [
        line
        for line in operator.complaints()
        if line.get("logger", "whisper_operator").startswith("whisper_operator")
    ]


def takes_over(cluster: Cluster, namespace: str, name: str, since: float) -> float:
    """Seconds until a change is carried out."""
    until(lambda: exists(cluster, namespace, "deployment", name), f"a Deployment for {name}")
    return time.monotonic() - since


@pytest.mark.timeout(300)
def test_a_follower_writes_nothing_and_a_leader_that_dies_is_followed(pair: Pair, namespace: str) -> None:
    cluster = pair.cluster
    settled(cluster, namespace)
    leader = pair.leader()
    follower = pair.operators[pair.other(leader)]
    assert "ok, waiting: the Lease is" in follower.ask("/readyz")[1]
    assert follower.metric("whisper_operator_writes_total", verb="apply", kind="Deployment") == 0
    assert follower.metric("whisper_operator_workqueue_depth") == 0
    assert follower.metric("whisper_operator_reconciles_total", result="done") == 0
    assert follower.metric("whisper_operator_endpoints", readiness="ready") >= 3, "its cache is warm"

    start, began = now(), time.monotonic()
    pair.operators[leader].stop(signal.SIGKILL)
    cluster.apply(endpoint("late", namespace, device="cpu"))
    seconds = takes_over(cluster, namespace, "late", began)
    assert seconds < DEATH_SECONDS
    wait_for_condition(cluster, namespace, "late")
    wait_until_quiet(cluster)
    found = written_once(cluster, start, namespace)
    assert {name for _, _, name in found} == {"late"}, "nothing of the others was written anew"
    assert own_complaints(follower) == []


@pytest.mark.timeout(300)
def test_a_leader_that_ends_hands_over_at_once(pair: Pair, namespace: str) -> None:
    """While it is at work, too."""
    cluster = pair.cluster
    names = settled(cluster, namespace, 8)
    for _ in range(3):
        leader = pair.leader()
        follower = pair.operators[pair.other(leader)]
        pair.wait_until_warm(pair.other(leader))
        start = now()
        cluster.kubectl("delete", "service", *names, "-n", namespace, "--wait=false")
        assert pair.operators[leader].stop() == 0
        until(lambda it=follower: _is_leader(it), "the other leads")  # type: ignore[misc]
        released, gained = _handed_over(cluster, start)
        assert (gained - released).total_seconds() < CLEAN_SECONDS
        until(lambda: all(exists(cluster, namespace, "service", each) for each in names), "all Services back")
        wait_until_quiet(cluster)
        written_once(cluster, start, namespace)
        assert own_complaints(pair.operators[leader]) == []
        assert own_complaints(follower) == []
        pair.operators[leader].start()


def _handed_over(cluster: Cluster, since: datetime) -> tuple[datetime, datetime]:
    """When the Lease was given back, and when the next one's first write came, or its taking of the Lease where none was left."""
    lease = cluster.get("lease", "whisper-operator-leader", "-n", "whisper-operator")["spec"]
    gained = datetime.fromisoformat(lease["acquireTime"])
    updates = [event for event in cluster.audit(verbs=["update"], since=since) if event.resource == LEASES]
    released = max(event.time for event in updates if event.time < gained and event.code == 200)
    return released, min((each.time for each in writes(cluster, since) if each.time > gained), default=gained)


@pytest.mark.timeout(300)
def test_a_frozen_leader_that_wakes_writes_nothing(pair: Pair, namespace: str) -> None:
    cluster = pair.cluster
    names = settled(cluster, namespace)
    leader = pair.leader()
    frozen, other = pair.operators[leader], pair.operators[pair.other(leader)]
    before, start = made(frozen), now()
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        # What it would have carried out is on its way to it, and changed again before it wakes.
        patch(cluster, namespace, name=names[0], replicas=2)
        cluster.kubectl("delete", "service", names[1], "-n", namespace)
        until(lambda: _is_leader(other), "the other leads", DEATH_SECONDS)
        until(lambda: exists(cluster, namespace, "service", names[1]), "the Service back")
        patch(cluster, namespace, name=names[0], replicas=3)
        until(lambda: replicas(cluster, namespace, names[0]) == 3, "three replicas")
        wait_until_quiet(cluster)
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    until(lambda: not _is_leader(frozen), "it knows")
    until(lambda: "ok, waiting" in frozen.ask("/readyz")[1], "it waits")
    time.sleep(5)
    found = written_once_each(cluster, start, namespace)
    assert found["patch", "apps/deployments", names[0]] == 2, "one for each of two changes"
    assert found["patch", "services", names[1]] == 1
    assert made(frozen) == before
    assert replicas(cluster, namespace, names[0]) == 3
    assert _is_leader(other)
    # It is fit to lead again.
    other.stop()
    until(lambda: _is_leader(frozen), "it leads again")
    cluster.kubectl("delete", "service", names[2], "-n", namespace)
    until(lambda: exists(cluster, namespace, "service", names[2]), "the Service back")


def written_once_each(cluster: Cluster, since: datetime, namespace: str) -> Counter[tuple[str, str, str]]:
    return Counter(
        (event.verb, event.resource, event.name)
        for event in writes(cluster, since, namespace)
        if event.code < 300
    )


def made(operator: Operator) -> float:
    """How many writes it has made, or tried to."""
    names = ("whisper_operator_writes_total", 'whisper_operator_request_errors_total{reason="conflict"}')
    lines = operator.ask("/metrics")[1].splitlines()
    return sum(
        float(line.rpartition(" ")[2]) for line in lines if line.startswith(names) and LEASE not in line
    )


def replicas(cluster: Cluster, namespace: str, name: str) -> int:
    return int(cluster.get("deployment", name, "-n", namespace)["spec"]["replicas"])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", ["cut", "lost", "timeout"])
def test_a_leader_that_alone_is_cut_off_stops_before_the_other_begins(
    pair: Pair, namespace: str, fault: str
) -> None:
    """All of its requests fail; it can't tell whether those that were lost were carried out."""
    cluster = pair.cluster
    names = settled(cluster, namespace)
    leader = pair.leader()
    cut, other = pair.operators[leader], pair.operators[pair.other(leader)]
    with pair.proxies[leader].always(fault, ""):
        cluster.kubectl("delete", "service", *names, "-n", namespace, "--wait=false")
        # Where only answers are lost, the API server carries out renewals for a while longer.
        until(lambda: _is_leader(other), "the other leads", (1 if fault == "cut" else 2) * DEATH_SECONDS)
        met, taken = len(pair.proxies[leader].done), now()
        assert not _is_leader(cut)
        until(lambda: all(exists(cluster, namespace, "service", each) for each in names), "the Services back")
        wait_until_quiet(cluster)
        is_fit, words = cut.ask("/readyz")
        assert is_fit == 503
        assert "can't have the Lease" in words
    until(lambda: "ok, waiting" in cut.ask("/readyz")[1], "it waits")
    time.sleep(3)
    after = written_once(cluster, taken, namespace)
    assert all(verb == "patch" for verb, _, _ in after)
    assert _is_leader(other)
    assert cut.exit_status() is None
    tried = pair.proxies[leader].done[met:]
    assert [each for each in tried if ": GET " not in each] == [], "it wrote, or tried to"


@pytest.mark.timeout(300)
def test_a_single_replica_starts_at_once_after_a_clean_end_and_looks_again_after_a_freeze(
    installed: Cluster, namespace: str
) -> None:
    with Operator(installed, name="alone") as operator:
        operator.wait_until_working()
        settled(installed, namespace)
        operator.stop()
        began = time.monotonic()
        start = now()
        operator.start().wait_until_working()
        assert time.monotonic() - began < 10, "the Lease was given back"
        wait_until_quiet(installed)
        assert writes(installed, start, namespace) == []
        os.kill(operator.pid, signal.SIGSTOP)
        installed.kubectl("delete", "service", "e0", "-n", namespace)
        time.sleep(12)
        os.kill(operator.pid, signal.SIGCONT)
        until(lambda: exists(installed, namespace, "service", "e0"), "the Service back")
        assert any("No longer leading" in line["message"] for line in operator.log())
        wait_until_quiet(installed)
        written_once(installed, start, namespace)
