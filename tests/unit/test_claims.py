"""A host or a static address belongs to the oldest endpoint that asks for it, and the others wake when it is free."""

from typing import Any

import pytest
from whisper_operator import claims
from whisper_operator.claims import Claims
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
    assert book.held_against(A) == [(("staticIPName", "ip"), B)]
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
    assert claims.of({"spec": spec}) == frozenset()


def test_who_has_it_is_said() -> None:
    with pytest.raises(SpecError) as error:
        claims.check([(("host", "w.example.com"), ("asr", "first"))])
    assert error.value.reason == "HostConflict"
    assert "WhisperEndpoint first in namespace asr has the host w.example.com" in error.value.message
    claims.check([])
