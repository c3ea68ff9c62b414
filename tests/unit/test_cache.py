"""The cache: newest state wins, ghosts go, and only an endpoint's own children count."""

from typing import Any

import pytest
from whisper_operator.apply.plan import Plan, plan
from whisper_operator.informer.access import FAILING, FORBIDDEN, MISSING, Access, Obstacle
from whisper_operator.informer.cache import Cache
from whisper_operator.kube.kinds import (
    COMPUTE_ADDRESS,
    DEPLOYMENT,
    ENDPOINT,
    EVENT,
    POD_MONITORING,
    TEMPLATE_ANNOTATION,
    UPGRADING_ANNOTATION,
    Kind,
)

KEY = ("n", "w")


def owner(name: str = "w", uid: str = "u") -> dict[str, Any]:
    return {"metadata": {"namespace": "n", "name": name, "uid": uid}}


OWNER = owner()


def endpoint(version: int = 1, uid: str = "u") -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "n",
            "name": "w",
            "uid": uid,
            "resourceVersion": str(version),
            "managedFields": [1],
        }
    }


def deployment(version: int = 2, uid: str = "d", owner: str = "u", **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "n",
            "name": "w",
            "uid": uid,
            "resourceVersion": str(version),
            "labels": {"whisper-operator.io/endpoint": "w"},
            "ownerReferences": [{"kind": "WhisperEndpoint", "name": "w", "uid": owner, "controller": True}],
            **metadata,
        },
        "spec": {"replicas": version, "template": {"large": "and of no use here"}},
    }


def relist(cache: Cache, kind: Kind, items: list[dict[str, Any]], version: int) -> set[tuple[str, str]]:
    woken = {key for raw in items for key in cache.upsert(kind, raw)}
    return woken | cache.replace(kind, {raw["metadata"]["uid"] for raw in items}, version)


def versions(cache: Cache) -> list[int]:
    return [child.version for child in cache.observed(OWNER).children.values()]


def test_old_news_changes_nothing() -> None:
    cache = Cache()
    assert cache.upsert(DEPLOYMENT, deployment(5)) == {KEY}
    assert cache.upsert(DEPLOYMENT, deployment(4)) == set()
    assert cache.upsert(DEPLOYMENT, deployment(5)) == set()
    assert versions(cache) == [5]
    assert cache.upsert(ENDPOINT, endpoint(2)) == {KEY}
    assert cache.upsert(ENDPOINT, endpoint(1)) == set()
    assert cache.upsert(ENDPOINT, endpoint(10)) == {KEY}  # by number, not by text


def test_objects_are_cut_down_to_what_decisions_need() -> None:
    cache = Cache()
    cache.upsert(DEPLOYMENT, deployment(3))
    cache.upsert(ENDPOINT, endpoint())
    (child,) = cache.observed(OWNER).children.values()
    assert child.spec == {"replicas": 3}
    resource = cache.endpoint(KEY)
    assert resource is not None
    assert "managedFields" not in resource["metadata"]


@pytest.mark.parametrize("part", ["train.note", "ledger.hold", "_claims.note"])
def test_what_can_t_be_worked_out_of_one_endpoint_keeps_nobody_from_news(
    part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither from a watch, where an exception is swallowed, nor from a list, where it ends the process."""
    noted: list[Any] = []

    def fails(key: Any, *_: Any, **__: Any) -> Any:
        if key == KEY:
            raise RuntimeError("no idea")
        noted.append(key)
        return ()

    cache = Cache()
    at, name = part.split(".")
    monkeypatch.setattr(getattr(cache, at), name, fails)
    kind = ENDPOINT if part == "_claims.note" else DEPLOYMENT
    one = endpoint() if kind is ENDPOINT else deployment()
    names = {"name": "v", "uid": "d2", "labels": {"whisper-operator.io/endpoint": "v"}, "ownerReferences": []}
    other = {**one, "metadata": {**one["metadata"], **names}}
    assert cache.upsert(kind, one) == {KEY}
    assert cache.upsert(kind, other) == {("n", "v")}
    noted.clear()
    assert cache.replace(kind, set(), 9) == {KEY, ("n", "v")}
    assert noted == [("n", "v")]
    assert "by a fault of the operator's own" in caplog.text


@pytest.mark.parametrize("server", ["", "/r/s:2"])
def test_a_mark_that_no_number_can_be_read_from_keeps_no_news_away(
    server: str, caplog: pytest.LogCaptureFixture
) -> None:
    annotations = {
        UPGRADING_ANNOTATION: f"2026-01-31T12:00:00Z/t/whole/{'9' * 5000}{server}",
        TEMPLATE_ANNOTATION: "t",
    }
    cache = Cache()
    cache.upsert(ENDPOINT, endpoint())
    assert cache.upsert(DEPLOYMENT, deployment(annotations=annotations)) == {KEY}
    assert caplog.text == ""


def test_of_an_endpoint_is_kept_what_is_looked_at_however_much_its_users_write_there() -> None:
    """Every replica of the operator has all endpoints in memory: their number is bounded, and so is what each takes."""
    cache, raw = Cache(), endpoint()
    huge = "x" * 200_000
    raw["metadata"] |= {
        "annotations": {"a": huge, "whisper-operator.io/paused": huge},
        "labels": {"a": "b" * 60},
        "finalizers": [huge],
        "ownerReferences": [{"name": huge}],
    }
    cache.upsert(ENDPOINT, {**raw, "spec": {"model": "tiny"}})
    kept = cache.endpoint(KEY)
    assert kept is not None
    assert len(str(kept)) < 500
    assert kept["spec"] == {"model": "tiny"}


def test_a_deletion_of_an_earlier_object_does_not_hit_the_new_one() -> None:
    cache = Cache()
    cache.upsert(DEPLOYMENT, deployment(5, uid="new"))
    cache.delete(DEPLOYMENT, deployment(4, uid="old"))
    cache.delete(DEPLOYMENT, deployment(4, uid="new"))
    assert versions(cache) == [5]
    assert cache.delete(DEPLOYMENT, deployment(6, uid="new")) == {KEY}
    assert versions(cache) == []
    cache.upsert(ENDPOINT, endpoint(8, uid="new"))
    cache.delete(ENDPOINT, endpoint(7, uid="old"))
    assert cache.endpoint(KEY) is not None


def test_children_of_an_earlier_endpoint_or_of_nobody_are_not_the_endpoints() -> None:
    cache = Cache()
    cache.upsert(DEPLOYMENT, deployment(owner="earlier"))
    assert not cache.observed(OWNER).children
    cache.upsert(DEPLOYMENT, deployment(3, ownerReferences=[]))
    assert not cache.observed(OWNER).children


def test_what_the_operator_made_and_has_lost_its_owner_is_the_endpoints_of_its_label() -> None:
    """So that what the spec no longer asks for goes, too, and the rest gets its owner back."""
    cache = Cache()
    made = {"whisper-operator.io/applied-hash": "0"}
    cache.upsert(DEPLOYMENT, deployment(ownerReferences=[], annotations=made))
    assert versions(cache) == [2]
    cache.upsert(DEPLOYMENT, deployment(3, ownerReferences=[]))  # as anybody may label it
    assert versions(cache) == []
    applied = {"manager": "whisper-operator", "operation": "Apply", "fieldsV1": {"f:spec": {}}}
    cache.upsert(DEPLOYMENT, deployment(4, ownerReferences=[], managedFields=[applied]))
    assert versions(cache) == [4]  # though its hash is gone


def test_a_list_drops_what_was_deleted_while_no_watch_was_looking() -> None:
    cache = Cache()
    cache.upsert(DEPLOYMENT, deployment(5))
    cache.upsert(ENDPOINT, endpoint(5))
    assert relist(cache, DEPLOYMENT, [], 4) == set()  # the list is older than what is known
    assert versions(cache) == [5]
    assert relist(cache, DEPLOYMENT, [], 6) == {KEY}
    assert versions(cache) == []
    assert relist(cache, ENDPOINT, [], 6) == {KEY}
    assert cache.endpoint(KEY) is None
    assert cache.endpoints() == []


def test_a_list_without_news_wakes_nobody() -> None:
    cache = Cache()
    cache.upsert(DEPLOYMENT, deployment(5))
    assert relist(cache, DEPLOYMENT, [deployment(5)], 9) == set()
    assert relist(cache, DEPLOYMENT, [deployment(7)], 9) == {KEY}


def test_objects_of_no_endpoint_concern_nobody() -> None:
    cache = Cache()
    stranger = deployment(labels={}, ownerReferences=[])
    assert cache.upsert(DEPLOYMENT, stranger) == set()
    assert cache.delete(DEPLOYMENT, stranger) == set()


def test_a_child_is_found_by_its_owner_whatever_its_label_says() -> None:
    cache = Cache()
    cache.upsert(DEPLOYMENT, deployment(5))
    assert cache.upsert(DEPLOYMENT, deployment(6, labels={"whisper-operator.io/endpoint": "other"})) == {KEY}
    assert versions(cache) == [6]
    assert cache.upsert(DEPLOYMENT, deployment(7, labels={})) == {KEY}
    assert versions(cache) == [7]


def test_a_child_that_changes_its_owner_wakes_both_and_is_filed_once() -> None:
    cache = Cache()
    cache.upsert(DEPLOYMENT, deployment(5))
    another = {"kind": "WhisperEndpoint", "name": "other", "uid": "o", "controller": True}
    assert cache.upsert(DEPLOYMENT, deployment(6, ownerReferences=[another])) == {KEY, ("n", "other")}
    assert versions(cache) == []
    assert len(cache.observed(owner("other", "o")).children) == 1
    nobody = deployment(7, ownerReferences=[], labels={})
    assert cache.upsert(DEPLOYMENT, nobody) == {("n", "other")}
    assert not cache.observed(owner("other", "o")).children


def test_a_list_that_was_on_its_way_does_not_bring_the_deleted_back() -> None:
    cache = Cache()
    cache.upsert(DEPLOYMENT, deployment(5))
    cache.upsert(ENDPOINT, endpoint(5))
    cache.delete(DEPLOYMENT, deployment(7))
    cache.delete(ENDPOINT, endpoint(7))
    assert relist(cache, DEPLOYMENT, [deployment(5)], 6) == set()
    assert relist(cache, ENDPOINT, [endpoint(5)], 6) == set()
    assert versions(cache) == []
    assert cache.endpoint(KEY) is None
    # A newer state is another matter: the object had only lost our label.
    assert cache.upsert(DEPLOYMENT, deployment(8)) == {KEY}


def test_a_new_object_takes_the_place_of_an_old_one_of_its_name() -> None:
    cache = Cache()
    cache.upsert(DEPLOYMENT, deployment(5, uid="old"))
    cache.upsert(DEPLOYMENT, deployment(9, uid="new"))
    assert versions(cache) == [9]
    cache.delete(DEPLOYMENT, deployment(8, uid="old"))
    assert versions(cache) == [9]
    # Late news of the old one, whose deletion no watch has reported yet.
    other = Cache()
    other.upsert(DEPLOYMENT, deployment(9, uid="new"))
    assert other.upsert(DEPLOYMENT, deployment(7, uid="old")) == set()
    assert versions(other) == [9]


def test_what_the_api_server_says_is_deleted_is_gone_before_a_watch_reports_it() -> None:
    cache = Cache()
    cache.upsert(DEPLOYMENT, deployment(5))
    (child,) = cache.observed(OWNER).children.values()
    cache.upsert(DEPLOYMENT, deployment(6))
    cache.deleted(child)
    assert versions(cache) == []
    # What was on its way is late, and the watch's own report is no news.
    assert relist(cache, DEPLOYMENT, [deployment(6)], 6) == set()
    cache.delete(DEPLOYMENT, deployment(7))
    cache.deleted(child)
    assert versions(cache) == []
    cache.upsert(DEPLOYMENT, deployment(8, uid="new"))
    cache.deleted(child)
    assert versions(cache) == [8]


def test_an_answer_to_our_apply_that_its_deletion_overtook_makes_no_ghost() -> None:
    cache = Cache()
    cache.upsert(DEPLOYMENT, deployment(9))
    cache.delete(DEPLOYMENT, deployment(11))
    cache.applied(DEPLOYMENT, deployment(10), frozenset())
    assert versions(cache) == []
    # Nor one of an object that was made and deleted before the answer came.
    cache.delete(DEPLOYMENT, deployment(13, uid="new"))
    cache.applied(DEPLOYMENT, deployment(12, uid="new"), frozenset())
    assert versions(cache) == []


def test_what_admission_took_out_of_an_apply_is_remembered_whichever_news_came_first() -> None:
    cache = Cache()
    hashed = {"whisper-operator.io/applied-hash": "h"}
    for first, then in ((10, 10), (11, 10)):
        cache = Cache()
        cache.upsert(DEPLOYMENT, deployment(first, annotations=hashed))
        cache.applied(DEPLOYMENT, deployment(then, annotations=hashed), frozenset({"spec.x"}))
        (child,) = cache.observed(OWNER).children.values()
        assert (child.version, child.refused) == (first, frozenset({"spec.x"}))
    cache.upsert(DEPLOYMENT, deployment(12, annotations=hashed))
    assert [child.refused for child in cache.observed(OWNER).children.values()] == [frozenset({"spec.x"})]
    cache.upsert(DEPLOYMENT, deployment(13, annotations={"whisper-operator.io/applied-hash": "other"}))
    assert [child.refused for child in cache.observed(OWNER).children.values()] == [frozenset()]


def test_a_list_of_one_namespace_drops_nothing_of_another() -> None:
    cache = Cache()
    cache.upsert(DEPLOYMENT, deployment(5))
    assert cache.replace(DEPLOYMENT, set(), 9, "elsewhere") == set()
    assert versions(cache) == [5]
    assert cache.replace(DEPLOYMENT, set(), 9, "n") == {KEY}


def test_an_earlier_state_does_not_give_an_endpoint_back_what_left_it() -> None:
    cache = Cache()
    cache.upsert(DEPLOYMENT, deployment(5))
    assert cache.upsert(DEPLOYMENT, deployment(7, ownerReferences=[], labels={})) == {KEY}
    assert cache.upsert(DEPLOYMENT, deployment(6)) == set()
    assert versions(cache) == []


def test_a_warning_is_filed_by_the_child_that_it_is_about_whatever_its_name() -> None:
    cache = Cache()
    cache.upsert(ENDPOINT, endpoint())
    cache.upsert(COMPUTE_ADDRESS, deployment(uid="address", name="whisper-ip", ownerReferences=[]))
    about = {"kind": "ComputeAddress", "name": "whisper-ip", "namespace": "n", "uid": "address"}
    metadata = {"namespace": "n", "name": "e", "uid": "e", "resourceVersion": "5"}
    event = {"metadata": metadata, "involvedObject": about, "reason": "UpdateFailed", "message": "in use"}
    assert cache.upsert(EVENT, event) == {KEY}
    assert [warning.words for warning in cache.observed(OWNER).warnings] == ["in use"]


def test_an_object_that_has_only_left_our_selectors_is_taken_when_a_read_by_name_shows_it() -> None:
    """The watch calls it deleted, at the version that it has from then on."""
    cache = Cache()
    cache.upsert(DEPLOYMENT, deployment(5))
    assert cache.delete(DEPLOYMENT, deployment(7)) == {KEY}
    assert cache.upsert(DEPLOYMENT, deployment(6)) == set()
    assert cache.upsert(DEPLOYMENT, deployment(7)) == {KEY}
    assert versions(cache) == [7]


@pytest.mark.parametrize("reason", [FAILING, FORBIDDEN, MISSING])
@pytest.mark.parametrize("read", ["listing", "watching"])
def test_what_cannot_be_read_for_a_moment_is_not_deleted(read: str, reason: str) -> None:
    """Nothing is declared of an optional kind that can't be read; that is no wish to have what there is gone."""
    access = Access()
    cache = Cache(access)
    cache.upsert(ENDPOINT, endpoint())
    cache.upsert(POD_MONITORING, deployment(uid="m"))
    getattr(access, read)((POD_MONITORING, None), Obstacle(reason, "for a moment"))
    observed = cache.observed(OWNER)
    assert (POD_MONITORING, "w") in observed.children
    assert plan((), observed) == Plan()
    getattr(access, read)((POD_MONITORING, None), None)
    observed = cache.observed(OWNER)
    assert plan((), observed).delete == tuple(observed.children.values())


def test_the_end_of_a_warning_is_seen_though_its_endpoint_is_gone() -> None:
    cache = Cache()
    cache.upsert(ENDPOINT, endpoint())
    metadata = {"namespace": "n", "name": "e", "uid": "e", "resourceVersion": "5"}
    about = {"kind": "Pod", "name": "w-5f", "namespace": "n", "uid": "p"}
    event = {"metadata": metadata, "involvedObject": about, "reason": "Failed", "message": "no"}
    cache.upsert(EVENT, event)
    cache.delete(ENDPOINT, endpoint(2))
    assert cache.concerns(event)
    cache.delete(EVENT, {**event, "metadata": {**metadata, "resourceVersion": "6"}})
    assert not cache.concerns(event)
