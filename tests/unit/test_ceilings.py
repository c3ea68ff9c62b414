"""How much endpoints may ask for, of which who has something keeps it."""

import sys
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import pytest
from whisper_operator.informer.cache import Cache
from whisper_operator.kube.kinds import AUTOSCALER, DEPLOYMENT, ENDPOINT, INGRESS, POD, Kind
from whisper_operator.observed.children import Child
from whisper_operator.observed.pods import Pod
from whisper_operator.policy.amounts import Amounts, Running, asked, ceilings, running
from whisper_operator.policy.ledger import Ledger
from whisper_operator.policy.rules import Policy
from whisper_operator.spec.endpoint import SpecError, parse

from tests.unit.making import SETTINGS, Body, child


def under(namespace: dict[str, int], everywhere: int | None = None) -> Policy:
    in_all = {} if everywhere is None else {"gpus": everywhere}
    return Policy({"everywhere": {"ceilings": {"namespace": namespace}}, "ceilings": in_all})


def gpus(count: int, **more: int) -> Amounts:
    found = {**({"gpus": count} if count else {}), **more}
    return {name: amount * 1000 for name, amount in found.items()}


class Cluster:
    """Endpoints of one GPU a replica, under a ceiling of GPUs for a namespace and for all."""

    def __init__(self, namespace: int | None = None, everywhere: int | None = None) -> None:
        self.woken: list[str] = []
        self.ledger = Ledger(lambda key: self.woken.append(key[1]))
        self.policy = under({} if namespace is None else {"gpus": namespace}, everywhere)
        self.created: dict[str, str] = {}

    def note(self, name: str, wants: int, has: int, namespace: str = "asr", **more: int) -> None:
        self.runs(name, has, namespace)
        self.ask(name, wants, namespace, **more)

    def ask(self, name: str, wants: int, namespace: str = "asr", **more: int) -> None:
        created = self.created.setdefault(name, f"{len(self.created):04}")
        metadata = {"namespace": namespace, "name": name, "uid": name, "creationTimestamp": created}
        self.ledger.ask({"metadata": metadata}, gpus(wants, **more))

    def runs(
        self, name: str, kept: int, namespace: str = "asr", *, pods: int | None = None, going: int = 0
    ) -> None:
        """`kept`: by its Deployment."""
        serving = kept if pods is None else pods
        self.ledger.hold((namespace, name), Running(gpus(kept), gpus(serving), gpus(going)))

    def may(self, name: str, namespace: str = "asr", *, new_pods: bool = False) -> bool:
        try:
            self.ledger.grant((namespace, name), self.policy, new_pods=new_pods)
        except SpecError as error:
            assert error.reason == "CeilingReached"
            assert error.waits_for_room
            return False
        return True


def test_what_there_is_room_for_is_granted_in_the_order_of_age() -> None:
    cluster = Cluster(4)
    cluster.created = {"a": "1", "b": "2", "c": "3"}
    for name in ("c", "b", "a"):
        cluster.note(name, 2, 0)
    # Whichever is looked at first.
    assert [cluster.may(name) for name in ("c", "b", "a")] == [False, True, True]


def test_who_has_something_keeps_it_though_an_older_one_asks_for_more() -> None:
    cluster = Cluster(4)
    cluster.note("old", 4, 2)
    cluster.note("new", 2, 2)
    assert [cluster.may(name) for name in ("old", "new")] == [False, True]


def test_one_that_asks_for_too_much_keeps_nobody_else_waiting() -> None:
    cluster = Cluster(4)
    cluster.note("greedy", 100, 0)
    cluster.note("modest", 4, 0)
    assert [cluster.may(name) for name in ("greedy", "modest")] == [False, True]


def test_one_that_lacks_something_else_keeps_nobody_waiting_either() -> None:
    cluster = Cluster(4)
    cluster.policy = under({"gpus": 4, "cpu": 8})
    cluster.note("greedy", 4, 0, cpu=100)
    cluster.note("modest", 4, 0, cpu=4)
    cluster.note("late", 1, 0, cpu=1)
    assert [cluster.may(name) for name in ("late", "greedy", "modest")] == [False, False, True]


def test_two_are_never_told_the_same_room_before_the_cluster_shows_it() -> None:
    cluster = Cluster(4)
    cluster.note("new", 4, 0)
    assert cluster.may("new")
    cluster.created["old"] = "-"
    cluster.note("old", 4, 0)
    assert not cluster.may("old")
    cluster.note("new", 4, 4)
    assert not cluster.may("old")
    assert cluster.may("new")


def test_a_lower_ceiling_takes_nothing_away_and_the_youngest_say_so() -> None:
    cluster = Cluster(3)
    for name in ("a", "b", "c"):
        cluster.note(name, 2, 2)
    assert [cluster.may(name) for name in ("a", "b", "c")] == [True, False, False]


def test_one_that_is_over_may_always_ask_for_less() -> None:
    cluster = Cluster(3)
    cluster.note("a", 3, 3)
    cluster.note("b", 3, 4)
    assert cluster.may("b")
    cluster.note("b", 3, 3)
    assert not cluster.may("b")


def test_others_are_woken_once_there_may_be_room() -> None:
    cluster = Cluster(4)
    cluster.note("a", 3, 3)
    cluster.note("b", 2, 0)
    assert not cluster.may("b")
    cluster.note("a", 3, 3)
    assert cluster.woken == []
    cluster.note("a", 2, 3)  # its Deployment is yet to shrink
    assert not cluster.may("b")
    cluster.note("a", 2, 2)
    assert cluster.woken == ["b"]
    assert cluster.may("b")
    cluster.note("c", 1, 0)
    assert not cluster.may("c")
    cluster.ledger.forget(("asr", "a"))  # but what runs of it is still there
    assert cluster.woken == ["b"]
    assert not cluster.may("c")
    cluster.runs("a", 0)
    assert cluster.woken == ["b", "c"]
    assert cluster.may("c")


def test_what_has_no_endpoint_any_more_takes_room_until_it_is_gone() -> None:
    """After a deletion that orphans; nobody has to have seen the endpoint, as after a restart."""
    cluster = Cluster(4)
    cluster.runs("orphan", 4)
    cluster.note("b", 4, 0)
    assert not cluster.may("b")
    cluster.runs("orphan", 0)
    assert cluster.woken == ["b"]
    assert cluster.may("b")


def test_pods_on_their_way_out_take_room_until_they_are_gone() -> None:
    """Whether their endpoint is suspended, has fewer replicas or is deleted."""
    cluster = Cluster(4)
    cluster.note("a", 4, 4)
    assert cluster.may("a")
    cluster.note("b", 4, 0)
    cluster.ask("a", 0)
    cluster.runs("a", 0, pods=4)
    assert not cluster.may("b")
    cluster.runs("a", 0, going=4)
    assert not cluster.may("b")
    # Nor does it get the same room a second time itself.
    cluster.ask("a", 4)
    assert not cluster.may("a")
    cluster.ask("a", 0)
    cluster.ledger.forget(("asr", "a"))
    assert not cluster.may("b")
    cluster.runs("a", 0, going=1)
    assert not cluster.may("b")
    cluster.runs("a", 0)
    assert cluster.may("b")


def test_another_change_of_pods_waits_until_those_before_are_gone_where_they_take_more_than_there_is() -> (
    None
):
    """Else each change would start as many pods as there are, however many are on their way out."""
    cluster = Cluster(4)
    cluster.note("a", 3, 3)
    cluster.runs("a", 3, going=1)
    assert cluster.may("a", new_pods=True)
    cluster.runs("a", 3, going=2)
    assert not cluster.may("a", new_pods=True)
    assert cluster.may("a")  # what changes no pods does not wait
    with pytest.raises(SpecError, match="gpus 3 beside 2 of its pods that are on their way out"):
        cluster.ledger.grant(("asr", "a"), cluster.policy, new_pods=True)
    cluster.runs("a", 3)  # of which its own pods are the news
    assert cluster.may("a", new_pods=True)


def test_whoever_asks_for_less_does_not_wait_for_pods_on_their_way_out_of_what_it_gives_up() -> None:
    """All that there is runs, and a pod of before is still ending."""

    def may(going: int = 1, **asks: int) -> bool:
        cluster = Cluster(4)
        cluster.policy = under({"gpus": 4, "cpu": 40, "replicas": 4})
        of_four, gone = gpus(4, cpu=16, replicas=4), gpus(going, cpu=4 * going, replicas=going)
        cluster.ledger.hold(("asr", "a"), Running(of_four, of_four, gone))
        cluster.ask("a", 0, "asr", **asks)
        return cluster.may("a", new_pods=True)

    assert not may(gpus=4, cpu=16, replicas=4)
    assert may(endpoints=1)  # suspended, with another prompt
    assert not may(cpu=16, replicas=4)  # without GPUs, but as many pods anew
    assert may(cpu=12, replicas=3)
    assert may(gpus=3, cpu=12, replicas=3)
    assert not may(gpus=3, cpu=12, replicas=3, going=2)
    assert not may(gpus=4, cpu=15, replicas=4)  # or each change by a little would start as many pods anew


def test_one_whose_gpus_are_going_may_do_without_any() -> None:
    cluster = Cluster(4)
    cluster.note("a", 4, 4)
    cluster.runs("a", 4, going=1)
    cluster.ask("a", 0, cpu=4)
    assert cluster.may("a", new_pods=True)
    cluster.ask("a", 0)
    assert cluster.may("a", new_pods=True)


def test_the_pod_more_of_a_rollout_counts_while_it_is_there() -> None:
    cluster = Cluster(4)
    cluster.note("a", 3, 3)
    cluster.runs("a", 3, pods=4)
    assert cluster.may("a")
    cluster.note("b", 1, 0)
    assert not cluster.may("b")
    cluster.runs("a", 3)
    assert cluster.may("b")


def test_what_was_granted_and_not_taken_is_others() -> None:
    """Its Deployment was refused, or is another's turn: a younger one gets what it has no use for."""
    cluster = Cluster(4)
    cluster.note("a", 4, 0)
    assert cluster.may("a")
    cluster.note("b", 4, 0)
    assert not cluster.may("b")
    cluster.ledger.settle(("asr", "a"))
    assert cluster.woken == ["b"]
    assert cluster.may("b")
    cluster.runs("b", 4)
    cluster.ledger.settle(("asr", "b"))
    cluster.ask("a", 4)
    assert not cluster.may("a")


def test_another_term_knows_what_runs_and_not_what_was_asked_for() -> None:
    cluster = Cluster(4)
    cluster.note("a", 4, 3)
    cluster.note("gone", 1, 0)
    cluster.ledger.begin(cluster.policy)
    cluster.ask("b", 1)
    assert cluster.may("b")
    cluster.ask("a", 4)
    assert not cluster.may("a")


def test_after_a_term_nobody_waits_any_more_and_what_runs_takes_its_room() -> None:
    cluster = Cluster(4)
    cluster.note("a", 4, 4)
    cluster.note("b", 1, 0)
    assert not cluster.may("b")
    cluster.ledger.end()
    cluster.runs("a", 2)  # as a replica that follows sees
    assert cluster.woken == []
    cluster.ledger.begin(cluster.policy)
    assert cluster.woken == []
    cluster.note("c", 3, 0)
    assert not cluster.may("c")
    cluster.note("a", 1, 1)
    assert cluster.woken == ["c"]
    assert cluster.may("c")


def test_one_that_waits_and_goes_makes_room_only_of_what_it_had() -> None:
    cluster = Cluster(7)
    cluster.note("a", 2, 2)
    cluster.note("b", 3, 3)
    cluster.note("c", 2, 2)
    cluster.note("d", 1, 0)
    cluster.policy = under({"gpus": 4})
    assert [cluster.may(name) for name in "abcd"] == [True, False, False, False]
    cluster.ledger.forget(("asr", "d"))
    assert cluster.woken == []
    cluster.ledger.forget(("asr", "b"))  # its Deployment is still there, but it is no endpoint's that is over
    assert cluster.woken == ["c"]


def test_one_that_can_t_have_it_any_more_keeps_nobody_waiting() -> None:
    """It would have got all GPUs, and then something else that it asks for has gone to another."""
    cluster = Cluster(4)
    cluster.policy = under({"gpus": 4, "cpu": 8})
    cluster.ask("old", 4, cpu=8)
    cluster.ask("young", 2)
    assert not cluster.may("young")
    cluster.ledger.hold(("asr", "orphan"), Running(gpus(0, cpu=4)))
    assert not cluster.may("old")
    assert cluster.woken == ["young"]
    assert cluster.may("young")


@pytest.mark.parametrize("is_over", [True, False])
def test_one_that_waits_on_account_of_what_runs_goes_on_keeping_others_from_what_it_would_get(
    is_over: bool,
) -> None:
    """It is over a lower ceiling, or has pods on their way out: neither is by what it asks for."""
    cluster = Cluster(4)
    cluster.policy = under({"gpus": 3 if is_over else 4, "cpu": 8})
    cluster.note("old", 4, 4)
    cluster.runs("old", 4, going=0 if is_over else 1)
    cluster.ask("old", 4, cpu=8)
    assert not cluster.may("old", new_pods=True)
    cluster.ask("young", 0, cpu=4)
    assert not cluster.may("young")
    cluster.ask("old", 4)
    assert cluster.woken == ["young"]


def test_one_that_had_no_room_under_an_earlier_policy_keeps_others_waiting_until_it_is_gone() -> None:
    cluster = Cluster(2)
    cluster.note("old", 3, 0)
    assert not cluster.may("old")
    cluster.policy = under({"gpus": 4})
    cluster.note("young", 2, 0)
    assert not cluster.may("young")  # before the old one was looked at
    cluster.ledger.forget(("asr", "old"))
    assert cluster.woken == ["young"]


def test_the_same_policy_read_anew_leaves_those_waiting_who_wait() -> None:
    cluster = Cluster(4)
    cluster.note("a", 4, 4)
    cluster.note("b", 1, 0)
    assert not cluster.may("b")
    cluster.policy = under({"gpus": 4})
    assert cluster.may("a")
    cluster.note("a", 3, 3)
    assert cluster.woken == ["b"]


def crowd(waiting: int) -> Cluster:
    """All that there is runs, and so many more ask for it."""
    cluster = Cluster(4)
    cluster.note("a", 4, 4)
    for number in range(waiting):
        cluster.ask(f"w{number}", 1)
    for number in range(waiting):
        assert not cluster.may(f"w{number}")
    return cluster


def everyone(cluster: Cluster) -> list[tuple[str, str]]:
    return [("asr", name) for name in cluster.created if name != "a"]


def another_term(cluster: Cluster) -> None:
    cluster.ledger.begin(cluster.policy)


def the_end_of_a_term(cluster: Cluster) -> None:
    """And a follower's watches from then on."""
    cluster.ledger.end()
    for has in range(len(cluster.created)):
        cluster.runs("a", has % 2)


def all_deleted(cluster: Cluster) -> None:
    for key in everyone(cluster):
        cluster.ledger.forget(key)


def all_refused(cluster: Cluster) -> None:
    for _, name in everyone(cluster):
        cluster.ask(name, 0)


@pytest.mark.parametrize("what", [another_term, the_end_of_a_term, all_deleted, all_refused])
def test_a_crowd_that_waits_goes_in_steps_that_do_not_grow_with_it(what: Callable[[Cluster], None]) -> None:
    """The loop stands still meanwhile, on which the leader's Lease is renewed."""
    few, many = (calls(partial(what, crowd(waiting))) for waiting in (50, 500))
    assert many < 12 * few, (few, many)


def calls(work: Callable[[], object]) -> int:
    """How many functions are called in it: unlike seconds, as many on a busy machine."""
    count = 0

    def on_event(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(on_event)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def test_only_those_are_woken_for_whom_there_is_room() -> None:
    """A thousand that wait for something else, or for more, are not looked at each time that somebody goes."""
    cluster = Cluster(namespace=4, everywhere=6)
    cluster.note("a", 4, 4, "one")
    cluster.note("b", 2, 2, "two")
    for number in range(100):
        cluster.note(f"greedy-{number}", 2, 0, "one")
        assert not cluster.may(f"greedy-{number}", "one")
        cluster.note(f"other-{number}", 1, 0, "two")
        assert not cluster.may(f"other-{number}", "two")
    cluster.note("b", 1, 1, "two")
    assert cluster.woken == ["other-0"]
    assert cluster.may("other-0", "two")
    cluster.runs("other-0", 1, "two")
    cluster.note("a", 2, 2, "one")
    assert cluster.woken == ["other-0", "greedy-0"]


def test_those_that_wait_make_looks_at_others_no_dearer() -> None:
    """Nor changes of them: what waits for one namespace's ceiling is not gone through for another's."""

    def work(waiting: int) -> int:
        cluster = Cluster(namespace=4, everywhere=40)
        for number in range(waiting):
            cluster.note(f"w{number}", 5, 0, "crowd")
            assert not cluster.may(f"w{number}", "crowd")
        cluster.note("a", 3, 3, "two")

        def look() -> None:
            for round in range(50):
                has = 3 - round % 2
                cluster.note("a", has, has, "two")
                assert cluster.may("a", "two")
                cluster.note("b", 1 + round % 2, 0, "two")
                cluster.may("b", "two")

        return calls(look)

    few, many = work(10), work(1000)
    assert many < 1.1 * few, (few, many)


def test_a_namespace_has_a_ceiling_of_its_own_and_all_have_one() -> None:
    cluster = Cluster(namespace=4, everywhere=5)
    cluster.note("a", 4, 4, "one")
    cluster.note("b", 2, 0, "two")
    cluster.note("c", 1, 0, "two")
    assert not cluster.may("b", "two")
    assert cluster.may("c", "two")
    with pytest.raises(SpecError) as error:
        cluster.ledger.grant(("two", "b"), cluster.policy)
    assert "gpus 2 (all that the installation may use is spoken for)" in error.value.message
    assert "one" not in error.value.message.split(), "no other namespace is named"


def test_what_is_not_counted_has_no_ceiling() -> None:
    cluster = Cluster()
    cluster.note("a", 900, 0)
    assert cluster.may("a")


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


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_asked_in_whatever_order_no_more_is_granted_than_there_is(seed: int) -> None:
    """And once nobody asks for anything new, looking again changes nothing."""
    random = Random(seed)
    cluster = Cluster(namespace=6, everywhere=9)
    places = dict(zip("abcdef", "112223", strict=True))
    wants, has, going = (dict.fromkeys("abcdef", 0) for _ in range(3))

    def look(cluster: Cluster, name: str, written: bool = True) -> bool:
        cluster.runs(name, has[name], places[name], going=going[name])
        cluster.ask(name, wants[name], places[name])
        may = cluster.may(name, places[name])
        if may and written:
            going[name] += max(0, has[name] - wants[name])
            has[name] = wants[name]
            cluster.runs(name, has[name], places[name], going=going[name])
        return may

    for _ in range(400):
        name = random.choice("abcdef")
        if random.random() < 0.4:
            wants[name] = random.randint(0, 5)
        if random.random() < 0.3:
            going[name] = 0
        if random.random() < 0.1:  # deleted by one that orphans, or that a finalizer holds up
            cluster.ledger.forget((places[name], name))
            wants[name] = 0
        elif look(cluster, name, random.random() < 0.8) and random.random() < 0.7:
            cluster.ledger.settle((places[name], name))  # else the answer was lost
        there = {each: has[each] + going[each] for each in has}
        assert sum(there.values()) <= 9
        assert all(sum(there[each] for each in has if places[each] == place) <= 6 for place in "123")
    for _ in range(10):
        going = dict.fromkeys("abcdef", 0)
        for name in wants:
            cluster.runs(name, has[name], places[name])
        for name in wants:
            look(cluster, name)
            cluster.ledger.settle((places[name], name))
    before = dict(has)
    fresh = Cluster(namespace=6, everywhere=9)
    fresh.created = cluster.created
    for name in wants:
        fresh.note(name, wants[name], has[name], places[name])
    for name in wants:
        assert fresh.may(name, places[name]) == look(cluster, name), "a restart changes nothing"
    assert has == before
