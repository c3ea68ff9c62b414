"""Pods cut down: what is kept says why a pod does not serve, and stays the same while it goes through the motions."""

from typing import Any

import pytest
from whisper_operator.informer.cache import Cache
from whisper_operator.kube.kinds import COMPUTE_ADDRESS, DEPLOYMENT, ENDPOINT, EVENT, POD, REPLICA_SET, Kind
from whisper_operator.observed.pods import Pod, ReplicaSet, Trouble
from whisper_operator.observed.warnings import Warning

KEY = ("n", "w")
OWNER = {"metadata": {"namespace": KEY[0], "name": KEY[1], "uid": "u"}}
LABELS = {"whisper-operator.io/endpoint": "w"}
BAD = {"terminated": {"exitCode": 1, "reason": "Error"}}
OOM = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting"}}
RUNNING = {"running": {"startedAt": "2026-01-02T03:04:05Z"}}
CREATING = {"waiting": {"reason": "ContainerCreating"}}


def metadata(uid: str, version: int, owner: str, kind: str, **more: Any) -> dict[str, Any]:
    reference = {"kind": kind, "name": "x", "uid": owner, "controller": True}
    return {
        "namespace": "n",
        "name": f"w-{uid}",
        "uid": uid,
        "resourceVersion": str(version),
        "labels": LABELS,
        "ownerReferences": [reference],
        **more,
    }


def relist(cache: Cache, kind: Kind, items: list[dict[str, Any]], version: int) -> set[tuple[str, str]]:
    woken = {key for raw in items for key in cache.upsert(kind, raw)}
    return woken | cache.replace(kind, {raw["metadata"]["uid"] for raw in items}, version)


def pod(
    *containers: dict[str, Any],
    ready: bool = False,
    uid: str = "p",
    version: int = 1,
    owner: str = "rs",
    **status: Any,
) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "metadata": metadata(uid, version, owner, "ReplicaSet"),
        "spec": {"containers": [{"name": "server", "image": "img:1"}]},
        "status": {
            "phase": "Pending",
            "conditions": conditions,
            "containerStatuses": list(containers),
            **status,
        },
    }


def container(
    state: dict[str, Any], last: dict[str, Any] | None = None, restarts: int = 0, **more: Any
) -> dict[str, Any]:
    status = {"name": "server", "image": "img:1", "state": state, "restartCount": restarts, "ready": False}
    return {**status, "lastState": last or {}, **more}


def trouble(*containers: dict[str, Any], **more: Any) -> Trouble | None:
    return Pod.of(pod(*containers, **more)).trouble


@pytest.mark.parametrize(("end", "what"), [(BAD, "Crash"), (OOM, "OutOfMemory")])
def test_a_crash_loop_looks_the_same_from_one_crash_to_the_next(end: dict[str, Any], what: str) -> None:
    motions = [
        container(end, restarts=2),
        container(BACK_OFF, end, restarts=2),
        container(RUNNING, end, restarts=3, started=False),
        container(RUNNING, end, restarts=3, started=True),
        container(end, end, restarts=3),
        container(BACK_OFF, end, restarts=9),
    ]
    seen = {trouble(each) for each in motions}
    assert [each.what for each in seen if each] == [what]


def test_pulling_an_image_looks_the_same_whether_tried_or_backed_off() -> None:
    states = [
        {"waiting": {"reason": "ErrImagePull", "message": "not found"}},
        {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}},
    ]
    assert {trouble(container(state)) for state in states} == {Trouble("ImagePull", "server", "img:1")}


def test_what_is_on_its_way_is_no_trouble() -> None:
    assert trouble(container(CREATING)) is None
    assert Pod.of(pod(container(CREATING))).starting
    assert Pod.of(pod()).starting
    mounted = {"type": "PodReadyToStartContainers", "status": "True"}
    assert not Pod.of(pod(container(CREATING), conditions=[mounted])).starting
    assert not Pod.of(pod(container(CREATING), initContainerStatuses=[container(RUNNING)])).starting
    assert trouble(container(RUNNING, started=False), phase="Running") is None
    assert trouble(container(RUNNING, BAD, restarts=1, ready=True), ready=True) is None
    assert trouble() is None
    assert not Pod.of(pod(ready=True)).starting


def test_the_scheduler_is_quoted() -> None:
    unscheduled = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes",
    }
    seen = Pod.of(pod(conditions=[unscheduled]))
    assert seen.trouble == Trouble("Unschedulable", words="0/3 nodes")
    assert not seen.starting


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ('noise\n{"time": "1", "message": "no CUDA", "level": "CRITICAL"}\n', "no CUDA"),
        ("Traceback\n  File x\nValueError: bad\n\n", "ValueError: bad"),
        ("[1, 2]", "[1, 2]"),
        ("[" * 3000, "[" * 397 + "..."),
        (r'{"message": "half \ud800 a pair"}', "half ? a pair"),
        ("", ""),
    ],
)
def test_the_last_words_of_a_server(log: str, words: str) -> None:
    end = {"terminated": {"exitCode": 3, "reason": "Error", "message": log}}
    found = trouble(container(BACK_OFF, end, restarts=1))
    assert found == Trouble("Crash", "server", "3", words)


def test_a_pod_that_will_never_run_again() -> None:
    found = trouble(
        phase="Failed", reason="Evicted", message="The node was low on resource: ephemeral-storage."
    )
    assert found is not None
    assert (found.what, found.about) == ("Failed", "Evicted")


def test_long_words_are_cut() -> None:
    event = {"involvedObject": {"uid": "p"}, "reason": "Failed", "message": "x " * 5000}
    assert len(Warning.of(event).words) <= 400


def event(
    uid: str, about: str, name: str, version: int = 1, message: str = "m", **more: Any
) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "n", "name": uid, "uid": uid, "resourceVersion": str(version)},
        "involvedObject": {"kind": "Pod", "namespace": "n", "name": name, "uid": about},
        "reason": "FailedMount",
        "message": message,
        **more,
    }


@pytest.fixture
def cache() -> Cache:
    """An endpoint with a Deployment, a ReplicaSet of each of two revisions, and a pod of each."""
    filled = Cache()
    filled.upsert(ENDPOINT, {"metadata": {"namespace": "n", "name": "w", "uid": "u", "resourceVersion": "1"}})
    deployment = metadata("d", 1, "u", "WhisperEndpoint")
    deployment["ownerReferences"][0]["name"] = "w"
    filled.upsert(DEPLOYMENT, {"metadata": {**deployment, "name": "w"}})
    for revision, name in ((1, "old"), (2, "rs")):
        annotations = {"deployment.kubernetes.io/revision": str(revision)}
        raw = {"metadata": metadata(name, 1, "d", "Deployment", annotations=annotations)}
        assert filled.upsert(REPLICA_SET, raw) == {KEY}
    filled.upsert(POD, pod(uid="p", owner="rs"))
    filled.upsert(POD, pod(uid="q", owner="old"))
    return filled


def test_pods_are_told_apart_by_revision_and_owner(cache: Cache) -> None:
    cache.upsert(POD, pod(uid="stranger", owner="somebody"))
    seen = cache.observed(OWNER)
    assert [each.uid for each in seen.pods] == ["p"]
    assert [each.uid for each in seen.old_pods] == ["q"]


def test_only_news_wake_an_endpoint(cache: Cache) -> None:
    assert cache.upsert(POD, pod(container(CREATING), uid="p", version=2)) == set()  # just as before
    heartbeat = pod(container(CREATING), uid="p", version=3)
    heartbeat["status"]["hostIP"] = "10.0.0.1"
    assert cache.upsert(POD, heartbeat) == set()
    assert (
        cache.upsert(POD, pod(container(BACK_OFF, BAD, restarts=1), uid="p", version=2)) == set()
    )  # old news
    assert cache.upsert(POD, pod(container(BACK_OFF, BAD, restarts=1), uid="p", version=4)) == {KEY}
    assert cache.upsert(EVENT, event("e", "p", "w-p")) == {KEY}
    assert cache.upsert(EVENT, event("e", "p", "w-p", version=5, count=7)) == set()
    assert [each.words for each in cache.observed(OWNER).warnings] == ["m"]


def test_warnings_about_others_are_not_kept(cache: Cache) -> None:
    assert cache.upsert(EVENT, event("e", "x", "other-p")) == set()
    assert cache.upsert(EVENT, event("f", "x", "w-p-of-a-namesake")) == {KEY}
    assert cache.observed(OWNER).warnings == ()
    own = event("g", "u", "w")
    own["involvedObject"]["kind"] = "WhisperEndpoint"
    assert cache.upsert(EVENT, own) == set()


def test_a_warning_about_a_child_is_its_endpoints_whatever_its_name(cache: Cache) -> None:
    """An address is named as the spec says, and a controller goes by that name."""
    address = {**metadata("a", 1, "", ""), "name": "reserved", "ownerReferences": []}
    assert cache.upsert(COMPUTE_ADDRESS, {"metadata": address}) == {KEY}
    assert cache.upsert(EVENT, event("e", "a", "reserved")) == {KEY}
    assert [each.about for each in cache.observed(OWNER).warnings] == ["a"]


@pytest.mark.parametrize(
    ("reason", "message", "timed"),
    [
        ("Sync", "m", True),
        ("FailedScaleUp", "m", True),
        ("TooManyCertificates", "m", True),
        ("Failed", 'Failed to pull image "i": m', True),
        ("Failed", "Error: ImagePullBackOff", False),  # said again every few seconds
        ("FailedMount", "m", False),
    ],
)
def test_times_are_kept_where_they_tell_something(reason: str, message: str, timed: bool) -> None:
    raw = event("e", "p", "w-p", message=message)
    raw |= {"reason": reason, "firstTimestamp": "2026-01-02T03:04:05Z", "eventTime": None}
    raw["series"] = {"lastObservedTime": "2026-01-02T03:06:35.000000Z"}
    found = Warning.of(raw)
    assert found.lasted == (150.0 if timed else 0.0)
    assert found.at == ("2026-01-02T03:06:35Z" if timed else "")


def test_what_is_gone_is_forgotten_and_stays_so(cache: Cache) -> None:
    assert cache.delete(POD, pod(uid="p", version=5)) == {KEY}
    assert cache.upsert(POD, pod(uid="p", version=4)) == set()
    assert relist(cache, POD, [pod(uid="q", owner="old")], 3) == set()
    assert relist(cache, POD, [], 9) == {KEY}
    seen = cache.observed(OWNER)
    assert (seen.pods, seen.old_pods) == ((), ())


def test_a_pod_that_loses_our_label_is_dropped(cache: Cache) -> None:
    stripped = pod(uid="p", version=2)
    stripped["metadata"]["labels"] = {}
    assert cache.upsert(POD, stripped) == {KEY}
    assert cache.observed(OWNER).pods == ()


def test_a_revision_that_is_no_number_is_the_oldest() -> None:
    assert ReplicaSet.of({"metadata": metadata("r", 1, "d", "Deployment")}).revision == 0
