"""What endpoints ask for and what runs, as numbers."""

from typing import Any

import pytest
from whisper_operator.informer.cache import Cache
from whisper_operator.kube.kinds import AUTOSCALER, DEPLOYMENT, ENDPOINT, INGRESS, POD, Kind
from whisper_operator.observed.children import Child
from whisper_operator.observed.pods import Pod
from whisper_operator.policy.amounts import Amounts, Running, asked, ceilings, running
from whisper_operator.spec.endpoint import SpecError, parse

from tests.unit.ledger import gpus, under
from tests.unit.making import SETTINGS, Body, child


def wanted(**spec: Any) -> dict[str, float]:
    return plainly(
        asked(parse({"metadata": {"name": "whisper", "namespace": "asr"}, "spec": spec}, SETTINGS))
    )


def plainly(found: Amounts) -> dict[str, float]:
    """Not in thousandths."""
    return {name: amount / 1000 for name, amount in found.items()}


GIB = 1024.0**3


@pytest.mark.parametrize(
    ("spec", "counted"),
    [
        ({"replicas": 3}, {"endpoints": 1, "replicas": 3, "gpus": 3, "cpu": 12, "memory": 72 * GIB}),
        ({"autoscaling": {"min": 1, "max": 5}}, {"endpoints": 1, "replicas": 5, "gpus": 5, "cpu": 20}),
        ({"suspend": True, "replicas": 9}, {"endpoints": 1}),
        ({"device": "cpu"}, {"endpoints": 1, "replicas": 1, "cpu": 4, "memory": 24 * GIB}),
        ({"resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": 8}}}, {"cpu": 8}),
        ({"resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}}}, {"memory": 2 * GIB}),
    ],
)
def test_what_an_endpoint_asks_for(spec: Body, counted: dict[str, float]) -> None:
    found = wanted(**spec)
    assert {name: found[name] for name in counted} == counted
    assert ("gpus" in found) == ("gpus" in counted or "resources" in spec)


TAKES = {
    "requests": {"cpu": "2", "memory": "24Gi", "nvidia.com/gpu": "1"},
    "limits": {"memory": "25769803776"},
}


def deployment(replicas: int) -> Child:
    return child(DEPLOYMENT, spec={"replicas": replicas}, takes=TAKES)


def pod(**more: Any) -> Pod:
    usual = {"ready": True, "starting": False, "going": False, "trouble": None, "takes": TAKES}
    return Pod("p", "p", "r", **{**usual, **more})


def test_what_runs() -> None:
    assert running([], [], [], []) == Running()
    found = plainly(running([deployment(2)], [], [], []).kept)
    assert found == {"endpoints": 1, "replicas": 2, "gpus": 2, "cpu": 4, "memory": 48 * GIB}
    scaler = child(AUTOSCALER, spec={"maxReplicas": 5})
    assert running([deployment(2)], [scaler], [], []).kept["gpus"] == 5000
    assert "gpus" not in running([deployment(0)], [scaler], [], []).kept
    ingress = child(INGRESS, hosts=("a.example.com", "b.example.com"))
    assert plainly(running([], [], [ingress], []).kept) == {"endpoints": 1, "hosts": 2}
    pods = running([], [], [], [pod(), pod(going=True), pod(going=True), pod(over=True)])
    assert plainly(pods.pods)["gpus"] == 1
    assert plainly(pods.going)["gpus"] == 2


def test_what_runs_is_read_off_objects_of_the_api() -> None:
    resources = {"requests": {"cpu": "1"}, "limits": {"nvidia.com/gpu": "1"}}
    containers = [
        {"name": "proxy", "resources": {"requests": {"cpu": "9"}}},
        {"name": "server", "resources": resources},
    ]
    metadata = {"namespace": "asr", "name": "whisper", "uid": "u", "resourceVersion": "1"}
    raw = {"metadata": metadata, "spec": {"replicas": 3, "template": {"spec": {"containers": containers}}}}
    found = plainly(running([Child.of(DEPLOYMENT, raw)], [], [], []).kept)
    assert found == {"endpoints": 1, "replicas": 3, "cpu": 3, "gpus": 3}
    live = {"metadata": metadata, "spec": {"containers": containers}, "status": {"phase": "Running"}}
    assert plainly(running([], [], [], [Pod.of(live)]).pods) == {"replicas": 1, "cpu": 1, "gpus": 1}
    assert Pod.of({**live, "status": {"phase": "Failed"}}).over


class Live:
    """What the API server shows, with a ledger that follows it."""

    def __init__(self) -> None:
        self.cache = Cache()
        self.policy = under({"gpus": 4})
        self.version = 0

    def show(self, kind: Kind, name: str, spec: Body, owner: str | None = "a", **metadata: Any) -> Body:
        self.version += 1
        made = {"annotations": {"whisper-operator.io/applied-hash": "h"}}
        owners = [{"kind": "WhisperEndpoint", "name": "a", "uid": owner, "controller": True}] if owner else []
        raw = {
            "metadata": {
                **{"namespace": "asr", "name": name, "uid": f"{kind.name}-{name}"},
                **{"labels": {"whisper-operator.io/endpoint": "a"}, "ownerReferences": owners},
                **{"resourceVersion": str(self.version), **made, **metadata},
            },
            "spec": spec,
        }
        self.cache.upsert(kind, raw)
        return raw

    def room(self) -> bool:
        """Whether another endpoint may have all there is."""
        self.cache.ledger.ask({"metadata": {"namespace": "asr", "name": "b"}}, gpus(4))
        try:
            self.cache.ledger.grant(("asr", "b"), self.policy)
        except SpecError:
            return False
        self.cache.ledger.forget(("asr", "b"))
        return True


SERVER = {"containers": [{"name": "server", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]}


FOUR: Body = {"replicas": 4, "template": {"spec": SERVER}}


def test_a_deployment_counts_whoever_stands_behind_it() -> None:
    live = Live()
    metadata = {"namespace": "asr", "name": "a", "uid": "a", "resourceVersion": "1"}
    live.cache.upsert(ENDPOINT, {"metadata": metadata, "spec": {}})
    live.show(DEPLOYMENT, "a", FOUR)
    assert not live.room()
    # It is deleted, and a finalizer of somebody's keeps it.
    going = {**metadata, "resourceVersion": "5", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    live.cache.upsert(ENDPOINT, {"metadata": going, "spec": {}})
    live.cache.ledger.forget(("asr", "a"))
    assert not live.room()
    # It is gone, and its Deployment is an orphan.
    live.cache.delete(ENDPOINT, {"metadata": {**going, "resourceVersion": "6"}})
    orphan = live.show(DEPLOYMENT, "a", FOUR, owner=None)
    assert not live.room()
    assert live.cache.orphans() == [("asr", "a")]
    live.cache.delete(DEPLOYMENT, {"metadata": {**orphan["metadata"], "resourceVersion": "9"}})
    assert live.room()
    assert live.cache.orphans() == []


def test_what_somebody_else_has_made_under_our_labels_takes_no_room() -> None:
    live = Live()
    live.show(DEPLOYMENT, "other", FOUR, owner=None, annotations={})
    assert live.room()


def test_pods_count_until_they_are_gone() -> None:
    live = Live()
    live.show(DEPLOYMENT, "a", {**FOUR, "replicas": 0})
    stamp = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    pods = [live.show(POD, f"a-{number}", SERVER, owner=None, **stamp) for number in range(2)]
    for each in pods:
        assert not live.room()
        live.cache.delete(POD, {"metadata": {**each["metadata"], "resourceVersion": "9"}})
    assert live.room()


@pytest.mark.parametrize(
    ("quantity", "number"),
    [(4, 4), ("500m", 0.5), ("1e3", 1000), ("2.5", 2.5), ("3Gi", 3 * GIB), ("1k", 1000)],
)
def test_a_quantity_is_a_number(quantity: object, number: float) -> None:
    assert ceilings({"cpu": quantity}) == {"cpu": number * 1000}
