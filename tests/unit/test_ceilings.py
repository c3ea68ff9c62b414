"""How much endpoints may ask for, of which who has something keeps it."""

from random import Random
from typing import Any

import pytest
from whisper_operator.kube.kinds import AUTOSCALER, DEPLOYMENT
from whisper_operator.observed.children import Child, Observed
from whisper_operator.policy.amounts import Amounts, amounts, asked, held
from whisper_operator.policy.ledger import Ledger
from whisper_operator.policy.rules import Policy
from whisper_operator.spec.endpoint import SpecError, parse

from tests.unit.making import SETTINGS, Body, child, seen


def under(namespace: dict[str, int], everywhere: int | None = None) -> Policy:
    in_all = {} if everywhere is None else {"gpus": everywhere}
    return Policy({"everywhere": {"ceilings": {"namespace": namespace}}, "ceilings": in_all})


class Cluster:
    """Endpoints of one GPU a replica, under a ceiling of GPUs for a namespace and for all."""

    def __init__(self, namespace: int | None = None, everywhere: int | None = None) -> None:
        self.woken: list[str] = []
        self.ledger = Ledger(lambda key: self.woken.append(key[1]))
        self.policy = under({} if namespace is None else {"gpus": namespace}, everywhere)
        self.created: dict[str, str] = {}

    def note(self, name: str, wants: int, has: int, namespace: str = "asr", **more: int) -> None:
        created = self.created.setdefault(name, f"{len(self.created):04}")
        metadata = {"namespace": namespace, "name": name, "uid": name, "creationTimestamp": created}
        self.ledger.note({"metadata": metadata}, amounts({"gpus": wants, **more}), amounts({"gpus": has}))

    def may(self, name: str, namespace: str = "asr") -> bool:
        try:
            self.ledger.grant((namespace, name), self.policy)
        except SpecError as error:
            assert error.reason == "PolicyViolation"
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
    cluster.ledger.forget(("asr", "a"))
    assert cluster.woken == ["b", "c"]
    assert cluster.may("c")


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


def deployment(replicas: int) -> Child:
    takes = {
        "requests": {"cpu": "2", "memory": "24Gi", "nvidia.com/gpu": "1"},
        "limits": {"memory": "25769803776"},
    }
    return child(DEPLOYMENT, spec={"replicas": replicas}, takes=takes)  # fmt: skip


def test_what_an_endpoint_has() -> None:
    assert held("whisper", Observed.nothing()) == {}
    found = plainly(held("whisper", seen(deployment(2))))
    assert found == {"endpoints": 1, "replicas": 2, "gpus": 2, "cpu": 4, "memory": 48 * GIB}
    autoscaler = child(AUTOSCALER, spec={"maxReplicas": 5})
    assert held("whisper", seen(deployment(2), autoscaler))["gpus"] == 5000
    assert held("whisper", seen(deployment(0), autoscaler))["gpus"] == 0


def test_what_runs_is_read_off_an_object_of_the_api() -> None:
    resources = {"requests": {"cpu": "1"}, "limits": {"nvidia.com/gpu": "1"}}
    containers = [
        {"name": "proxy", "resources": {"requests": {"cpu": "9"}}},
        {"name": "server", "resources": resources},
    ]
    metadata = {"namespace": "asr", "name": "whisper", "uid": "u", "resourceVersion": "1"}
    raw = {"metadata": metadata, "spec": {"replicas": 3, "template": {"spec": {"containers": containers}}}}
    found = plainly(held("whisper", seen(Child.of(DEPLOYMENT, raw))))
    assert found == {"endpoints": 1, "replicas": 3, "cpu": 3, "gpus": 3}


@pytest.mark.parametrize(
    ("quantity", "number"),
    [(4, 4), ("500m", 0.5), ("1e3", 1000), ("2.5", 2.5), ("3Gi", 3 * GIB), ("1k", 1000)],
)
def test_a_quantity_is_a_number(quantity: object, number: float) -> None:
    assert amounts({"cpu": quantity}) == {"cpu": number * 1000}


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_asked_in_whatever_order_no_more_is_granted_than_there_is(seed: int) -> None:
    """And once nobody asks for anything new, looking again changes nothing."""
    random = Random(seed)
    cluster = Cluster(namespace=6, everywhere=9)
    wants, has, places = (
        dict.fromkeys("abcdef", 0),
        dict.fromkeys("abcdef", 0),
        dict(zip("abcdef", "112223", strict=True)),
    )
    for _ in range(300):
        name = random.choice("abcdef")
        if random.random() < 0.4:
            wants[name] = random.randint(0, 5)
        cluster.note(name, wants[name], has[name], places[name])
        if cluster.may(name, places[name]) and random.random() < 0.8:  # else its write is delayed
            has[name] = wants[name]
        assert sum(has.values()) <= 9
        assert all(sum(has[each] for each in has if places[each] == place) <= 6 for place in "123")
    for _ in range(3):
        for name in wants:
            cluster.note(name, wants[name], has[name], places[name])
            if cluster.may(name, places[name]):
                has[name] = wants[name]
    before = dict(has)
    fresh = Cluster(namespace=6, everywhere=9)
    fresh.created = cluster.created
    for name in wants:
        fresh.note(name, wants[name], has[name], places[name])
    for name in wants:
        assert fresh.may(name, places[name]) == cluster.may(name, places[name]), "a restart changes nothing"
        assert not fresh.may(name, places[name]) or has[name] == wants[name]
    assert has == before
