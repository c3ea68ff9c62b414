"""Carrying out a plan, where the cluster is not as it was thought to be: what an object is, who deletes it, what fails."""

import copy
from typing import Any

from whisper_operator.kube.errors import Unavailable
from whisper_operator.kube.kinds import DEPLOYMENT, HASH_ANNOTATION

from tests.unit.bench import Bench, managed
from tests.unit.making import SCALED


def scaled_to(bench: Bench, replicas: int) -> None:
    """An autoscaler has set it."""
    live = bench.server.objects[DEPLOYMENT, "whisper"]
    scaler = managed("kube-controller-manager", DEPLOYMENT, {"f:spec": {"f:replicas": {}}})
    live["metadata"]["managedFields"].append({**scaler, "subresource": "scale"})
    bench.server.put(DEPLOYMENT, {**live, "spec": {**live["spec"], "replicas": replicas}})


def test_what_the_cache_lacks_and_is_there_is_not_put_right_from_a_plan_made_blind() -> None:
    """A Deployment that left our selectors by somebody's label, or that no list has shown yet: its autoscaler's number stays."""
    bench = Bench(**SCALED)
    bench.settle()
    scaled_to(bench, 9)
    live = bench.server.objects[DEPLOYMENT, "whisper"]
    live["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "Helm"
    live["metadata"]["managedFields"][0]["fieldsV1"] = {"f:spec": {}}
    bench.cache.delete(DEPLOYMENT, copy.deepcopy(live))
    (delay,) = bench.once().delays
    assert delay == ("Deployment whisper", "Deployment whisper was there, and had not been seen")
    assert bench.once().delays == ()
    assert [body["spec"].get("replicas") for body in bench.sent(DEPLOYMENT)] == [None]
    assert bench.server.objects[DEPLOYMENT, "whisper"]["spec"]["replicas"] == 9
    labels = bench.server.objects[DEPLOYMENT, "whisper"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/managed-by"] == "whisper-operator"


def orphaned(bench: Bench) -> dict[str, Any]:
    """As a backup has restored a Deployment: of no owner, and with a default beside what is declared."""
    live = bench.server.objects[DEPLOYMENT, "whisper"]
    del live["metadata"]["ownerReferences"]
    probe: dict[str, Any] = {"f:livenessProbe": {"f:httpGet": {"f:path": {}, "f:port": {}, "f:scheme": {}}}}
    pod = {"f:template": {"f:spec": {"f:containers": {'k:{"name":"server"}': probe}}}}
    live["metadata"]["managedFields"] = [managed("velero", DEPLOYMENT, {"f:spec": pod})]
    return live


def test_an_adoption_that_fails_half_way_is_taken_up_again() -> None:
    bench = Bench()
    bench.settle()
    bench.server.put(DEPLOYMENT, orphaned(bench))
    bench.watch()
    bench.server.failing["apply", DEPLOYMENT] = [Unavailable("503")]
    assert bench.once().delays == (("Deployment whisper", "503"),)
    live = bench.server.objects[DEPLOYMENT, "whisper"]["metadata"]
    assert HASH_ANNOTATION not in live["annotations"]
    bench.watch()
    outcome = bench.once()
    assert (outcome.names_taken, outcome.delays) == ((), ())
    live = bench.server.objects[DEPLOYMENT, "whisper"]["metadata"]
    assert live["ownerReferences"][0]["uid"] == "u-1"


def test_an_adoption_that_failed_is_taken_up_again_by_an_operator_that_has_not_listed_it() -> None:
    bench = Bench()
    bench.settle()
    bench.server.put(DEPLOYMENT, orphaned(bench))
    bench.watch()
    bench.server.failing["apply", DEPLOYMENT] = [Unavailable("503")]
    bench.once()
    another = Bench()
    another.server.objects = bench.server.objects
    outcome = another.once()
    assert outcome.names_taken == ()
    assert ("Deployment whisper", "Deployment whisper was there, and had not been seen") in outcome.delays
    another.once()
    live = another.server.objects[DEPLOYMENT, "whisper"]["metadata"]
    assert live["ownerReferences"][0]["uid"] == "u-1"
