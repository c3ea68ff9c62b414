"""Installations that overlap, as their Leases show them."""

from typing import Any

from whisper_operator.leader.installations import (
    ALL,
    CLAIM,
    LEADER,
    SCOPE_ANNOTATION,
    THERE_SECONDS,
    Installations,
)


def lease(
    namespace: str,
    name: str = LEADER,
    holder: str = "x",
    *,
    scope: str = ALL,
    made: int = 1,
    uid: str = "",
    tick: int = 0,
) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": namespace,
            "name": name,
            "uid": uid or f"{namespace}/{name}",
            "creationTimestamp": f"2026-01-01T00:00:0{made}Z",
            "annotations": {SCOPE_ANNOTATION: scope},
        },
        "spec": {"holderIdentity": holder, "renewTime": str(tick)},
    }


OWN = lease("b", made=5)


def test_alone_nobody_is_in_the_way() -> None:
    others = Installations("b")
    others.see([OWN], 0)
    assert others.senior(OWN, 0) is None
    assert others.juniors(OWN, 0) == []
    assert others.claims(0) == {}


def test_of_two_for_the_whole_cluster_the_older_goes_on() -> None:
    others = Installations("b")
    others.see([OWN, lease("c", made=1), lease("a", made=3)], 0)
    assert others.senior(OWN, 0) == "c"
    others.see([OWN, lease("a", made=7)], 0)
    assert others.senior(OWN, 0) is None
    assert others.juniors(OWN, 0) == ["a"]


def test_of_two_made_in_the_same_second_exactly_one_is_the_older() -> None:
    one, other = lease("a", uid="1"), lease("b", uid="2")
    of_a, of_b = Installations("a"), Installations("b")
    for each in (of_a, of_b):
        each.see([one, other], 0)
    assert of_a.senior(one, 0) is None
    assert of_b.senior(other, 0) == "a"


def test_one_for_some_namespaces_is_no_rival_but_in_those_that_it_has_claimed() -> None:
    others = Installations("b")
    others.see([OWN, lease("team", scope="asr", made=1), lease("asr", CLAIM, "team")], 0)
    assert others.senior(OWN, 0) is None
    assert others.claims(0) == {"asr": "team"}


def test_a_lease_speaks_of_its_own_namespace_alone() -> None:
    """Who may write in a namespace of his own claims that, and no other."""
    others = Installations("b")
    others.see([lease("evil", CLAIM, "evil", scope=ALL), lease("evil", "another-name", "evil", made=0)], 0)
    assert others.claims(0) == {"evil": "evil"}
    assert others.senior(OWN, 0) is None


def test_a_younger_lease_that_somebody_made_up_stops_nobody() -> None:
    others = Installations("b")
    others.see([OWN, lease("evil", made=9)], 0)
    assert others.senior(OWN, 0) is None


def test_claims_of_ones_own_from_when_it_looked_after_some_are_none() -> None:
    others = Installations("b")
    others.see([lease("asr", CLAIM, "b"), lease("free", CLAIM, "")], 0)
    assert others.claims(0) == {}


def test_one_that_gives_no_sign_of_life_is_gone_in_the_end_and_no_sooner() -> None:
    """A restart, or a hand-over between its replicas, is no end: nobody else takes its endpoints over meanwhile."""
    others = Installations("b")
    others.see([lease("a", tick=1), lease("asr", CLAIM, "team", tick=1)], 0)
    others.see([lease("a", holder="", tick=2), lease("asr", CLAIM, "team", tick=1)], 100)
    assert others.senior(OWN, THERE_SECONDS - 1) == "a"
    assert others.claims(THERE_SECONDS - 1) == {"asr": "team"}
    assert others.claims(THERE_SECONDS) == {}
    assert others.senior(OWN, THERE_SECONDS + 99) == "a"
    assert others.senior(OWN, THERE_SECONDS + 100) is None


def test_one_whose_lease_was_deleted_is_gone_at_once() -> None:
    others = Installations("b")
    others.see([lease("a"), lease("asr", CLAIM, "team")], 0)
    others.see([], 1)
    assert others.senior(OWN, 1) is None
    assert others.claims(1) == {}
    others.see([lease("asr", CLAIM, "team")], THERE_SECONDS + 5)
    assert others.claims(THERE_SECONDS + 6) == {"asr": "team"}, "one of that uid again counts as new"
