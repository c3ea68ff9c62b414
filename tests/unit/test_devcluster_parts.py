"""The parts of the development cluster that need no cluster."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import DevclusterError, nodes, stages
from devcluster.audit import AuditLog
from devcluster.gke import settings
from devcluster.gke.store import References
from devcluster.gke.workqueue import Job, WorkQueue
from devcluster.gke.world import is_gce, split
from devcluster.paths import HERE
from devcluster.stage_parts import FAULT
from devcluster.waiting import eventually


def entry(verb: str, audit_id: str, **more: Any) -> str:
    """A line of the audit log."""
    target = {"resource": "pods", "namespace": "n", "name": "p"}
    whole = {
        "auditID": audit_id,
        "verb": verb,
        "user": {"username": "u"},
        "objectRef": target,
        "responseStatus": {"code": 200},
        "requestReceivedTimestamp": "2026-01-02T03:04:05.678901Z",
        "stageTimestamp": "2026-01-02T03:04:05.778901Z",
        "userAgent": "agent",
    }
    return json.dumps(whole | more) + "\n"


def test_the_audit_log_is_read_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    log = AuditLog(path)
    assert log.events() == [], "no log yet"
    group = {
        "apiGroup": "apps",
        "resource": "deployments",
        "subresource": "scale",
        "namespace": "n",
        "name": "d",
    }
    path.write_text(entry("watch", "1", stage="ResponseStarted") + entry("patch", "2", objectRef=group)[:40])
    (watch,) = log.events()
    assert watch.time == datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    assert (watch.user, watch.resource, watch.name, watch.code) == ("u", "pods", "p", 200)
    path.write_text(
        entry("watch", "1", stage="ResponseStarted")
        + entry("patch", "2", objectRef=group)
        + entry("watch", "1", stage="ResponseComplete")
        + entry("get", "3", objectRef={}, impersonatedUser={"username": "other"})
    )
    assert [(each.verb, each.resource, each.user) for each in log.events()] == [
        ("watch", "pods", "u"),
        ("patch", "apps/deployments/scale", "u"),
        ("get", "", "other"),
    ], "a watch that has ended is still one request"
    assert [each.verb for each in log.events(user="u", verbs={"patch", "get"})] == ["patch"]


def test_an_audit_log_that_begins_anew_is_not_taken_for_silence(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    log = AuditLog(path)
    path.write_text(entry("patch", "1") + entry("patch", "2"))
    assert len(log.events()) == 2
    path.write_text(entry("patch", "3"))
    with pytest.raises(DevclusterError, match=r"audit\.log is shorter than what was read of it"):
        log.events()


def test_the_api_server_never_rotates_its_audit_log() -> None:
    """After 100 MB it would by default, some 90,000 requests, and every "nothing was written" would be true from then on."""
    config = yaml.safe_load((HERE / "kwokctl.yaml").read_text())
    (server,) = [each for each in config["componentsPatches"] if each["name"] == "kube-apiserver"]
    assert {"key": "audit-log-maxsize", "value": "0"} in server["extraArgs"]


def test_settings_are_read_and_nonsense_is_complained_of() -> None:
    read, complaints = settings.parse(
        {
            "certificates": "FailedNotVisible",
            "certificate.a.example.com": "Active",
            "addressSeconds": "0.5",
            "missingStaticIPs": "one, two",
            "noAddress": "true",
        }
    )
    assert complaints == []
    assert read.outcome("a.example.com") == ("Active", "Active")
    assert read.outcome("b.example.com") == ("Provisioning", "FailedNotVisible")
    assert (read.address_seconds, read.no_address) == (0.5, True)
    assert read.missing_static_ips == {"one", "two"}

    read, complaints = settings.parse(
        {"certificates": "Fine", "addressSeconds": "-1", "noAddress": "yes", "speed": "1"}
    )
    assert read == settings.Settings()
    assert [complaint.split(" ")[0].rstrip(":") for complaint in complaints] == [
        "certificates",
        "addressSeconds",
        "noAddress",
        "speed",
    ]


def test_references_follow_changes() -> None:
    references = References(lambda item: item["spec"])

    def thing(*names: str) -> dict[str, Any]:
        return {"metadata": {"namespace": "n", "name": "i"}, "spec": names}

    references.update(None, thing("a", "b"))
    assert references.to(("n", "a")) == [("n", "i")]
    references.update(thing("a", "b"), thing("b", "c"))
    assert references.to(("n", "a")) == []
    assert references.to(("n", "c")) == [("n", "i")]
    references.update(thing("b", "c"), None)
    assert references.to(("n", "b")) == []
    assert references.to(("other", "b")) == []


@pytest.mark.parametrize(
    ("annotation", "class_name", "ours"),
    [
        ("gce", None, True),
        (None, None, True),
        ("", None, True),
        (None, "gce", False),
        ("gce-internal", None, False),
    ],
)
def test_which_ingresses_gke_looks_after(annotation: str | None, class_name: str | None, ours: bool) -> None:
    annotations = {} if annotation is None else {"kubernetes.io/ingress.class": annotation}
    spec = {} if class_name is None else {"ingressClassName": class_name}
    assert is_gce({"metadata": {"annotations": annotations}, "spec": spec}) is ours


def test_lists_in_annotations() -> None:
    assert split(" a, b,,c ") == ["a", "b", "c"]
    assert split("") == []


async def test_the_queue_works_once_on_what_waits_and_again_on_what_changed_meanwhile() -> None:
    done: list[Job] = []
    begun, go_on = asyncio.Event(), asyncio.Event()
    job, other = ("ingress", ("n", "a")), ("ingress", ("n", "b"))

    async def work(item: Job) -> float | None:
        done.append(item)
        begun.set()
        await go_on.wait()
        return None

    queue = WorkQueue(work, lambda item, error: None)
    queue.add(job)
    queue.add(job)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        running = group.create_task(queue.run(workers=2))
        await begun.wait()
        queue.add(job)
        queue.add(job)
        await asyncio.sleep(0)
        assert done == [job], "never two workers on one key"
        queue.add(other)
        go_on.set()
        while len(done) < 3:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        running.cancel()
    assert sorted(done) == [job, job, other]


async def test_the_queue_tries_again_after_a_failure_and_when_asked() -> None:
    tries = 0
    failures: list[Exception] = []

    async def work(_: Job) -> float | None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RuntimeError("not yet")
        return 0.01 if tries < 4 else None

    queue = WorkQueue(work, lambda item, error: failures.append(error))
    queue.add(("service", ("n", "a")))
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        running = group.create_task(queue.run(workers=1))
        while tries < 4:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        running.cancel()
    assert tries == 4
    assert [str(error) for error in failures] == ["not yet"]


async def test_a_key_that_has_failed_for_days_ends_nothing() -> None:
    failures: list[Exception] = []

    async def work(item: Job) -> float | None:
        raise RuntimeError("still not")

    queue = WorkQueue(work, lambda item, error: failures.append(error))
    job: Job = ("ingress", ("n", "a"))
    queue._failures[job] = 2000
    queue.add(job)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        running = group.create_task(queue.run(workers=1))
        while len(failures) < 1:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        queue.add(job)
        while len(failures) < 2:
            await asyncio.sleep(0.01)
        running.cancel()
    assert [str(error) for error in failures] == ["still not"] * 2


def test_every_fault_has_stages_and_names_are_unique() -> None:
    names = [stage["metadata"]["name"] for stage in stages.all_stages()]
    assert len(set(names)) == len(names)
    selected = {
        value
        for stage in stages.all_stages()
        for where in stage["spec"]["selector"]["matchExpressions"]
        if FAULT in where["key"] and where["operator"] == "In"
        for value in where["values"]
    }
    assert selected == set(stages.FAULTS)


def test_nodes_are_unlike_one_another() -> None:
    all_nodes = nodes.all_nodes()
    for value in (
        [node["metadata"]["name"] for node in all_nodes],
        [node["spec"]["podCIDR"] for node in all_nodes],
        [node["spec"]["providerID"] for node in all_nodes],
    ):
        assert len(set(value)) == len(all_nodes)


def test_waiting_returns_the_value_or_says_what_it_was_last() -> None:
    values = iter([None, 0, 7])
    assert eventually(lambda: next(values), interval=0) == 7
    with pytest.raises(AssertionError, match=r"not so after 0 s; last: ZeroDivisionError"):
        eventually(lambda: 1 // 0, timeout=0)
