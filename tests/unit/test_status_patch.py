"""What of a status is written: nothing twice, with times that mean something, and an event for what turned."""

from dataclasses import replace
from typing import Any

import pytest
from whisper_operator.apply.outcome import Outcome
from whisper_operator.spec.endpoint import parse
from whisper_operator.status import status
from whisper_operator.status.status import merge_patch

from tests.unit.reporting import (
    ACTIVE,
    HOST,
    INGRESS_UP,
    LATER,
    NAME_TAKEN,
    NOT_VISIBLE,
    NOW,
    SERVING,
    SETTINGS,
    apply,
    condition,
    observed,
    resource,
    told,
)


def test_a_settled_endpoint_is_told_of_nothing() -> None:
    seen = observed(SERVING, INGRESS_UP, ACTIVE)
    of = resource(host=HOST)
    first = status.of(of, parse(of, SETTINGS), seen, Outcome(), NOW)
    again = {**of, "status": dict(first.patch)}
    second = status.of(again, parse(of, SETTINGS), seen, Outcome(), LATER)
    assert second == status.Report({}, ())


def test_times_change_with_the_status_only_and_what_is_over_is_removed() -> None:
    of = resource(host=HOST)
    first = status.of(of, parse(of, SETTINGS), observed(SERVING, INGRESS_UP, NOT_VISIBLE), Outcome(), NOW)
    again = {**of, "status": dict(first.patch)}
    second = status.of(again, parse(of, SETTINGS), observed(SERVING), Outcome(), LATER)
    assert condition(second, "Available")["lastTransitionTime"] == "2026-01-02T03:04:05Z"
    assert condition(second, "AddressAssigned")["lastTransitionTime"] == "2026-01-02T04:00:00Z"
    assert second.patch["address"] is second.patch["dns"] is second.patch["certificates"] is None


def test_each_transition_is_an_event_once() -> None:
    of = resource(host=HOST)
    first = status.of(of, parse(of, SETTINGS), observed(), NAME_TAKEN, NOW)
    assert [(each["type"], each["reason"]) for each in first.events] == [("Warning", "NameConflict")]
    again = {**of, "status": dict(first.patch)}
    second = status.of(again, parse(of, SETTINGS), observed(SERVING, INGRESS_UP, ACTIVE), Outcome(), LATER)
    assert ("Normal", "Ready") in [(each["type"], each["reason"]) for each in second.events]
    settled = {**of, "status": apply(first.patch, second.patch)}
    third = status.of(settled, parse(of, SETTINGS), observed(SERVING, INGRESS_UP, ACTIVE), Outcome(), LATER)
    assert third.events == ()


def test_who_sees_some_namespaces_only_says_what_it_can_not_tell() -> None:
    some = replace(SETTINGS, namespaces=("n", "m"))
    seen = observed(SERVING, INGRESS_UP, ACTIVE)
    public = told(seen, endpoint=parse(resource(host=HOST), some), host=HOST)
    assert "sees no namespaces but n, m" in condition(public, "Ready")["message"]
    inside = told(observed(SERVING), endpoint=parse(resource(), some))
    assert "namespaces" not in condition(inside, "Ready")["message"]


def test_what_is_true_when_it_is_first_told_is_a_transition_too() -> None:
    of = resource()
    first = status.of(of, parse(of, SETTINGS), observed(SERVING), Outcome(), NOW)
    assert [each["reason"] for each in first.events] == ["Available", "Ready"]


def test_progress_is_told_in_the_status_and_is_no_event() -> None:
    of = resource(host=HOST)
    first = status.of(of, parse(of, SETTINGS), observed(), Outcome(), NOW)
    again = {**of, "status": dict(first.patch)}
    second = status.of(again, parse(of, SETTINGS), observed(SERVING), Outcome(), LATER)
    reasons = [condition(each, "Ready")["reason"] for each in (first, second)]
    assert reasons[0] != reasons[1]
    assert first.events == ()
    assert [each["reason"] for each in second.events] == ["Available"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {}),
        ({"a": 1}, {"a": 1}),
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}),
        ({"a": [1, 2]}, {"a": [2]}),
        ({"a": {"b": 1}}, {"a": [1]}),
        ({"a": 0}, {"a": False}),
    ],
)
def test_a_merge_patch_turns_one_into_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    patch = merge_patch(before, after)
    assert apply(before, patch) == after
    assert (patch == {}) is (before == after)
