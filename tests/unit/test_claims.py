"""A host or a static address belongs to whoever's Ingress has it, or else to the oldest endpoint that asks for it."""

from typing import Any

import pytest
from whisper_operator import claims
from whisper_operator.claims import Claims
from whisper_operator.informer.cache import Cache
from whisper_operator.kube.kinds import ENDPOINT, INGRESS
from whisper_operator.observed.children import Child, Owner
from whisper_operator.spec.endpoint import SpecError

A, B, C = ("n", "a"), ("n", "b"), ("m", "c")


def endpoint(uid: str, created: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "creationTimestamp": f"2026-01-0{created}T00:00:00Z"}, "spec": spec}


def test_the_oldest_has_it_whoever_asked_first() -> None:
    book = Claims()
    assert book.note(B, endpoint("b", "2", host="w.example.com")) == set()
    assert book.held_against(B) == []
    assert book.note(A, endpoint("a", "1", additionalHosts=["w.example.com"])) == {B}
    assert book.held_against(A) == []
    assert book.held_against(B) == [(("host", "w.example.com"), A)]


def test_of_the_same_second_the_uid_decides() -> None:
    book = Claims()
    book.note(B, endpoint("1", "1", staticIPName="ip"))
    book.note(A, endpoint("2", "1", staticIPName="ip"))
    assert book.held_against(A) == [(("global address", "ip"), B)]
    assert book.held_against(B) == []


def test_the_others_wake_when_it_is_given_up_or_gone() -> None:
    book = Claims()
    book.note(A, endpoint("a", "1", host="w.example.com"))
    book.note(B, endpoint("b", "2", host="w.example.com"))
    book.note(C, endpoint("c", "3", host="w.example.com"))
    assert book.note(A, endpoint("a", "1", host="other.example.com")) == {B, C}
    assert book.held_against(C) == [(("host", "w.example.com"), B)]
    assert book.note(B, None) == {C}
    assert book.held_against(C) == []


def ingress(*hosts: str, uid: str = "a", **more: Any) -> Child:
    """A live one of the endpoint with that uid."""
    owner = Owner("WhisperEndpoint", "a", uid)
    more = {"ingress_class": "gce", **more}
    return Child(INGRESS, "n", "a", "i", 1, 1, owner, False, "h", "{}", {}, {}, hosts=hosts, **more)


W, V = "w.example.com", "v.example.com"


def test_who_is_frozen_keeps_what_it_serves_in_every_namespace() -> None:
    """A asks for what B has, so that A's Ingress stays as it is: nobody else gets what that one serves."""
    book = Claims()
    book.note(B, endpoint("b", "1", host=V))
    book.note(A, endpoint("a", "2", host=V), [ingress(W)])
    assert book.held_against(A) == [(("host", V), B)]
    book.note(C, endpoint("c", "1", host=W))  # older than A, and in another namespace
    assert book.held_against(C) == [(("host", W), A)]
    # B gives way, A's Ingress is brought in line, and C gets what that leaves.
    assert book.note(B, None) == {A}
    assert book.held_against(C) == [(("host", W), A)]
    assert book.note(A, endpoint("a", "2", host=V), [ingress(V)]) == {C}
    assert book.held_against(C) == []


def test_an_older_endpoint_takes_away_nothing_that_is_served() -> None:
    book = Claims()
    book.note(B, endpoint("b", "2", host=W), [ingress(W)])
    book.note(A, endpoint("a", "1", host=W))
    assert book.held_against(A) == [(("host", W), B)]
    assert book.held_against(B) == []
    # Who neither asks for it nor was given it, but by somebody's edit, has less of a right to it.
    book.note(A, endpoint("a", "1", host=V), [ingress(V, W)])
    assert book.held_against(B) == []


def test_a_global_and_a_regional_address_of_one_name_are_two() -> None:
    book = Claims()
    book.note(A, endpoint("a", "1", host=V, staticIPName="x"))
    inside = endpoint("b", "2", host=W, staticIPName="x", ingress={"class": "gce-internal"})
    book.note(B, inside)
    assert book.held_against(B) == []
    book.note(A, endpoint("a", "1"), [ingress(ingress_class="gce-internal", static_ip_name="x")])
    assert book.held_against(B) == [(("regional address", "x"), A)]
    with pytest.raises(SpecError, match="has the regional static address x") as error:
        claims.check(book.held_against(B))
    assert error.value.reason == "StaticIPConflict"


def test_what_a_live_ingress_has_is_read_off_it() -> None:
    annotations = {"kubernetes.io/ingress.class": "gce", "kubernetes.io/ingress.global-static-ip-name": "ip"}
    metadata = {"namespace": "n", "name": "a", "uid": "i", "resourceVersion": "1", "annotations": annotations}
    spec = {"rules": [{"host": W}, {"http": {}}], "tls": [{"secretName": "s"}, {}]}
    live = Child.of(INGRESS, {"metadata": metadata, "spec": spec})
    assert claims.held([live]) == {("host", W), ("global address", "ip")}
    assert live.secrets == ("s", "")


def test_a_live_ingress_wakes_those_who_ask_for_what_it_gives_up() -> None:
    """Whether that is seen by a watch or in a list."""
    cache, age = Cache(), {"creationTimestamp": "2026-01-01T00:00:00Z"}

    def see(version: int, *hosts: str) -> set[tuple[str, str]]:
        owner = {"kind": "WhisperEndpoint", "name": "a", "uid": "a", "controller": True}
        metadata = {"namespace": "n", "name": "a", "uid": "i", "resourceVersion": str(version)}
        spec = {"rules": [{"host": host} for host in hosts]}
        return cache.upsert(INGRESS, {"metadata": {**metadata, "ownerReferences": [owner]}, "spec": spec})

    for key, asked in ((A, V), (C, W)):
        metadata = {"namespace": key[0], "name": key[1], "uid": key[1], "resourceVersion": "1", **age}
        cache.upsert(ENDPOINT, {"metadata": metadata, "spec": {"host": asked}})
    assert see(2, W) == {A, C}
    assert cache.claimed_by_others(C) == [(("host", W), A)]
    assert see(3, V) == {A, C}
    assert cache.claimed_by_others(C) == []
    see(4, W)
    assert cache.replace(INGRESS, set(), 9) == {A, C}
    assert cache.claimed_by_others(C) == []


def test_a_change_of_something_else_wakes_nobody() -> None:
    book = Claims()
    book.note(A, endpoint("a", "1", host="w.example.com"))
    book.note(B, endpoint("b", "2", host="w.example.com"))
    assert book.note(A, endpoint("a", "1", host="w.example.com", replicas=2)) == set()


def test_an_endpoint_made_anew_under_the_same_name_is_the_youngest() -> None:
    book = Claims()
    book.note(A, endpoint("a", "1", host="w.example.com"))
    book.note(B, endpoint("b", "2", host="w.example.com"))
    assert book.note(A, endpoint("again", "3", host="w.example.com")) == {B}
    assert book.held_against(A) == [(("host", "w.example.com"), B)]


@pytest.mark.parametrize(
    "spec", [None, [], {}, {"host": 5}, {"additionalHosts": "x"}, {"additionalHosts": [{}]}]
)
def test_a_spec_that_makes_no_sense_asks_for_nothing(spec: Any) -> None:
    assert claims.asked({"spec": spec}) == frozenset()


def test_who_has_it_is_said() -> None:
    with pytest.raises(SpecError) as error:
        claims.check([((claims.HOST, "w.example.com"), ("asr", "first"))])
    assert error.value.reason == "HostConflict"
    assert "WhisperEndpoint first in namespace asr has the host w.example.com" in error.value.message
    claims.check([])
