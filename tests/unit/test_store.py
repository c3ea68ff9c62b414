"""The store: newest state wins, ghosts go, and only an endpoint's own children count."""

from typing import Any

from whisper_operator.informer.cache import Store
from whisper_operator.kube.kinds import DEPLOYMENT, ENDPOINT, Kind

KEY = ("n", "w")


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


def relist(store: Store, kind: Kind, items: list[dict[str, Any]], version: int) -> set[tuple[str, str]]:
    woken = {key for raw in items for key in store.absorb(kind, raw)}
    return woken | store.drop_others(kind, {raw["metadata"]["uid"] for raw in items}, version)


def versions(store: Store) -> list[int]:
    return [child.version for child in store.observed(KEY, "u").children.values()]


def test_old_news_changes_nothing() -> None:
    store = Store()
    assert store.absorb(DEPLOYMENT, deployment(5)) == {KEY}
    assert store.absorb(DEPLOYMENT, deployment(4)) == set()
    assert store.absorb(DEPLOYMENT, deployment(5)) == set()
    assert versions(store) == [5]
    assert store.absorb(ENDPOINT, endpoint(2)) == {KEY}
    assert store.absorb(ENDPOINT, endpoint(1)) == set()
    assert store.absorb(ENDPOINT, endpoint(10)) == {KEY}  # by number, not by text


def test_objects_are_cut_down_to_what_decisions_need() -> None:
    store = Store()
    store.absorb(DEPLOYMENT, deployment(3))
    store.absorb(ENDPOINT, endpoint())
    (child,) = store.observed(KEY, "u").children.values()
    assert child.spec == {"replicas": 3}
    resource = store.endpoint(KEY)
    assert resource is not None
    assert "managedFields" not in resource["metadata"]


def test_a_deletion_of_an_earlier_object_does_not_hit_the_new_one() -> None:
    store = Store()
    store.absorb(DEPLOYMENT, deployment(5, uid="new"))
    store.forget(DEPLOYMENT, deployment(4, uid="old"))
    store.forget(DEPLOYMENT, deployment(4, uid="new"))
    assert versions(store) == [5]
    assert store.forget(DEPLOYMENT, deployment(6, uid="new")) == {KEY}
    assert versions(store) == []
    store.absorb(ENDPOINT, endpoint(8, uid="new"))
    store.forget(ENDPOINT, endpoint(7, uid="old"))
    assert store.endpoint(KEY) is not None


def test_children_of_an_earlier_endpoint_or_of_nobody_are_not_the_endpoints() -> None:
    store = Store()
    store.absorb(DEPLOYMENT, deployment(owner="earlier"))
    assert not store.observed(KEY, "u").children
    store.absorb(DEPLOYMENT, deployment(3, ownerReferences=[]))
    assert not store.observed(KEY, "u").children


def test_a_list_drops_what_was_deleted_while_no_watch_was_looking() -> None:
    store = Store()
    store.absorb(DEPLOYMENT, deployment(5))
    store.absorb(ENDPOINT, endpoint(5))
    assert relist(store, DEPLOYMENT, [], 4) == set()  # the list is older than what is known
    assert versions(store) == [5]
    assert relist(store, DEPLOYMENT, [], 6) == {KEY}
    assert versions(store) == []
    assert relist(store, ENDPOINT, [], 6) == {KEY}
    assert store.endpoint(KEY) is None
    assert store.endpoints() == []


def test_a_list_without_news_wakes_nobody() -> None:
    store = Store()
    store.absorb(DEPLOYMENT, deployment(5))
    assert relist(store, DEPLOYMENT, [deployment(5)], 9) == set()
    assert relist(store, DEPLOYMENT, [deployment(7)], 9) == {KEY}


def test_objects_of_no_endpoint_concern_nobody() -> None:
    store = Store()
    stranger = deployment(labels={}, ownerReferences=[])
    assert store.absorb(DEPLOYMENT, stranger) == set()
    assert store.forget(DEPLOYMENT, stranger) == set()


def test_a_child_is_found_by_its_owner_whatever_its_label_says() -> None:
    store = Store()
    store.absorb(DEPLOYMENT, deployment(5))
    assert store.absorb(DEPLOYMENT, deployment(6, labels={"whisper-operator.io/endpoint": "other"})) == {KEY}
    assert versions(store) == [6]
    assert store.absorb(DEPLOYMENT, deployment(7, labels={})) == {KEY}
    assert versions(store) == [7]


def test_a_child_that_changes_its_owner_wakes_both_and_is_filed_once() -> None:
    store = Store()
    store.absorb(DEPLOYMENT, deployment(5))
    owner = {"kind": "WhisperEndpoint", "name": "other", "uid": "o", "controller": True}
    assert store.absorb(DEPLOYMENT, deployment(6, ownerReferences=[owner])) == {KEY, ("n", "other")}
    assert versions(store) == []
    assert len(store.observed(("n", "other"), "o").children) == 1
    nobody = deployment(7, ownerReferences=[], labels={})
    assert store.absorb(DEPLOYMENT, nobody) == {("n", "other")}
    assert not store.observed(("n", "other"), "o").children


def test_a_list_that_was_on_its_way_does_not_bring_the_deleted_back() -> None:
    store = Store()
    store.absorb(DEPLOYMENT, deployment(5))
    store.absorb(ENDPOINT, endpoint(5))
    store.forget(DEPLOYMENT, deployment(7))
    store.forget(ENDPOINT, endpoint(7))
    assert relist(store, DEPLOYMENT, [deployment(5)], 6) == set()
    assert relist(store, ENDPOINT, [endpoint(5)], 6) == set()
    assert versions(store) == []
    assert store.endpoint(KEY) is None
    # A newer state is another matter: the object had only lost our label.
    assert store.absorb(DEPLOYMENT, deployment(8)) == {KEY}


def test_a_new_object_takes_the_place_of_an_old_one_of_its_name() -> None:
    store = Store()
    store.absorb(DEPLOYMENT, deployment(5, uid="old"))
    store.absorb(DEPLOYMENT, deployment(9, uid="new"))
    assert versions(store) == [9]
    store.forget(DEPLOYMENT, deployment(8, uid="old"))
    assert versions(store) == [9]
    # Late news of the old one, whose deletion no watch has reported yet.
    other = Store()
    other.absorb(DEPLOYMENT, deployment(9, uid="new"))
    assert other.absorb(DEPLOYMENT, deployment(7, uid="old")) == set()
    assert versions(other) == [9]


def test_what_the_api_server_says_is_deleted_is_gone_before_a_watch_reports_it() -> None:
    store = Store()
    store.absorb(DEPLOYMENT, deployment(5))
    (child,) = store.observed(KEY, "u").children.values()
    store.absorb(DEPLOYMENT, deployment(6))
    store.deleted(child)
    assert versions(store) == []
    # What was on its way is late, and the watch's own report is no news.
    assert relist(store, DEPLOYMENT, [deployment(6)], 6) == set()
    store.forget(DEPLOYMENT, deployment(7))
    store.deleted(child)
    assert versions(store) == []
    store.absorb(DEPLOYMENT, deployment(8, uid="new"))
    store.deleted(child)
    assert versions(store) == [8]
