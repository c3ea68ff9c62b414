"""A host or a static address belongs to whoever's Ingress has it, or else to the oldest endpoint that asks for it."""

from collections.abc import Callable
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


def test_who_has_it_keeps_it_while_its_ingress_is_made_again() -> None:
    """Somebody deletes the Ingress, or another class makes it another one: an older endpoint that waits does not get its host."""
    book = Claims()
    book.note(A, endpoint("a", "2", host=W), [ingress(W)])
    book.note(C, endpoint("c", "1", host=W))
    for ingresses in ([], [], [ingress(W)], []):
        assert book.note(A, endpoint("a", "2", host=W), ingresses) <= {C}
        assert book.held_against(A) == []
        assert book.held_against(C) == [(("host", W), A)]
    # What it does not ask for any more is free, and so is what an earlier endpoint of its name had.
    book.note(A, endpoint("a", "2", host=V))
    assert book.held_against(C) == []
    book = Claims()
    book.note(A, endpoint("a", "2", host=W), [ingress(W)])
    book.note(C, endpoint("c", "1", host=W))
    book.note(A, endpoint("again", "3", host=W))
    assert book.held_against(C) == []


def test_a_global_and_a_regional_address_of_one_name_are_two() -> None:
    book = Claims()
    book.note(A, endpoint("a", "1", host=V, staticIPName="x"))
    inside = endpoint("b", "2", host=W, staticIPName="x", ingress={"class": "gce-internal"})
    book.note(B, inside)
    assert book.held_against(B) == []
    book.note(A, endpoint("a", "1"), [ingress(ingress_class="gce-internal", static_ip_name="x")])
    assert book.held_against(B) == [(("regional address", "x"), A)]
    with pytest.raises(SpecError, match="has the regional static address x") as error:
        claims.check(book.held_against(B), B[0])
    assert error.value.reason == "StaticIPConflict"


def test_what_a_live_ingress_has_is_read_off_it() -> None:
    annotations = {"kubernetes.io/ingress.class": "gce", "kubernetes.io/ingress.global-static-ip-name": "ip"}
    metadata = {"namespace": "n", "name": "a", "uid": "i", "resourceVersion": "1", "annotations": annotations}
    spec = {"rules": [{"host": W}, {"http": {}}], "tls": [{"secretName": "s"}, {}]}
    live = Child.of(INGRESS, {"metadata": metadata, "spec": spec})
    assert claims.held([live]) == {("host", W), ("global address", "ip")}
    assert live.secrets == ("s", "")


class Served:
    """A cache in which A's Ingress serves W, and C, which is younger, asks for it as well."""

    def __init__(self) -> None:
        self.woken: list[tuple[str, str]] = []
        self.cache = Cache(wake=self.woken.append)
        self.ask(A, 1, "1", W)
        self.ask(C, 1, "2", W)
        self.cache.upsert(INGRESS, self.ingress(2, W))
        assert self.cache.claimed_by_others(C) == [(("host", W), A)]
        self.woken.clear()

    def endpoint(self, key: tuple[str, str], version: int, created: str, host: str) -> dict[str, Any]:
        metadata = {"namespace": key[0], "name": key[1], "uid": key[1], "resourceVersion": str(version)}
        return {"metadata": {**metadata, "creationTimestamp": created}, "spec": {"host": host}}

    def ask(self, key: tuple[str, str], version: int, created: str, host: str) -> None:
        self.cache.upsert(ENDPOINT, self.endpoint(key, version, created, host))

    def ingress(self, version: int, *hosts: str) -> dict[str, Any]:
        owner = {"kind": "WhisperEndpoint", "name": "a", "uid": "a", "controller": True}
        metadata = {"namespace": "n", "name": "a", "uid": "i", "resourceVersion": str(version)}
        spec = {"rules": [{"host": host} for host in hosts]}
        return {"metadata": {**metadata, "ownerReferences": [owner]}, "spec": spec}

    def live(self) -> Child:
        (child,) = self.cache.observed(self.endpoint(A, 1, "1", W)).children.values()
        return child


def seen_by_a_watch(served: Served) -> None:
    served.ask(A, 3, "1", V)
    served.cache.upsert(INGRESS, served.ingress(4, V))


def seen_in_a_list(served: Served) -> None:
    served.ask(A, 3, "1", V)
    served.cache.replace(INGRESS, set(), 9)


def learned_from_the_answer_to_its_apply(served: Served) -> None:
    served.ask(A, 3, "1", V)
    served.cache.applied(INGRESS, served.ingress(4, V), frozenset())


def learned_from_the_answer_to_its_deletion(served: Served) -> None:
    """Of which no watch tells any more, where it breaks just then."""
    served.ask(A, 3, "1", V)
    served.cache.deleted(served.live())


def learned_when_its_status_was_written(served: Served) -> None:
    """The endpoint is gone, which the answer to the write says before a watch does."""
    served.cache.delete(ENDPOINT, served.endpoint(A, 3, "1", W))


@pytest.mark.parametrize(
    "news",
    [
        seen_by_a_watch,
        seen_in_a_list,
        learned_from_the_answer_to_its_apply,
        learned_from_the_answer_to_its_deletion,
        learned_when_its_status_was_written,
    ],
)
def test_who_waits_for_a_host_is_woken_whoever_learns_first_that_it_is_free(
    news: Callable[[Served], None],
) -> None:
    """What is learned once is no news the second time: a watch that shows the same later wakes nobody."""
    served = Served()
    news(served)
    assert served.cache.claimed_by_others(C) == []
    assert C in served.woken


def test_an_ingress_that_has_lost_its_owner_is_still_the_endpoints() -> None:
    """By a hand, or by a deletion that orphans: who waits for its host does not get it."""
    served = Served()
    cache, owned = Cache(), served.ingress(2, W)
    cache.upsert(ENDPOINT, served.endpoint(A, 1, "2", W))
    cache.upsert(ENDPOINT, served.endpoint(C, 1, "1", W))
    del owned["metadata"]["ownerReferences"]
    owned["metadata"]["labels"] = {"whisper-operator.io/endpoint": "a"}
    cache.upsert(INGRESS, owned)  # as anybody may label one
    assert cache.claimed_by_others(C) == []
    owned["metadata"] |= {"annotations": {"whisper-operator.io/applied-hash": "h"}, "resourceVersion": "3"}
    cache.upsert(INGRESS, owned)
    assert cache.claimed_by_others(C) == [(("host", W), A)]


def test_an_ingress_that_outlives_its_endpoint_keeps_its_host_until_it_is_gone() -> None:
    """By a deletion that orphans, or while its load balancer is taken down."""
    served = Served()
    live = served.ingress(5, W)
    live["metadata"] |= {"annotations": {"whisper-operator.io/applied-hash": "h"}}
    served.cache.upsert(INGRESS, live)
    served.cache.delete(ENDPOINT, served.endpoint(A, 6, "1", W))
    assert served.cache.claimed_by_others(C) == [(("host", W), A)]
    assert served.cache.orphans() == [A]
    with pytest.raises(SpecError) as error:
        claims.check(served.cache.claimed_by_others(C), C[0], exists=lambda key: False)
    assert "An Ingress that is left of WhisperEndpoint a in namespace n has the host" in error.value.message
    assert "delete that Ingress" in error.value.message
    served.woken.clear()
    live["metadata"]["resourceVersion"] = "7"
    served.cache.delete(INGRESS, live)
    assert served.cache.claimed_by_others(C) == []
    assert served.woken == [C]


def test_who_is_refused_has_what_its_ingress_has_and_nothing_that_it_only_asks_for() -> None:
    served = Served()
    served.cache.refuse(A, refused=True)
    assert served.cache.claimed_by_others(C) == [(("host", W), A)]
    served.cache.replace(INGRESS, set(), 9)
    assert served.cache.claimed_by_others(C) == []
    served.woken.clear()
    served.cache.refuse(A, refused=False)
    assert served.cache.claimed_by_others(C) == [(("host", W), A)], "the older one again"
    assert C in served.woken


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
        claims.check([((claims.HOST, "w.example.com"), ("asr", "first"))], "other")
    assert error.value.reason == "HostConflict"
    assert "WhisperEndpoint first in namespace asr has the host w.example.com" in error.value.message
    claims.check([], "asr")
