"""Everything that can go wrong: the status says what it is and what to do, says so once, and is Ready when that is done.

All faults are brought about first, then looked at, then mended one by one.
"""

import secrets
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from devcluster import AuditEvent, Cluster
from devcluster.installation import Operator
from tests.cluster import troubleshooting
from tests.cluster.faults import FAULTS, NAME, Fault, bring_about, pods_recover, simulated
from tests.cluster.health import Recorder
from tests.cluster.history import History
from tests.cluster.support import condition, endpoint, live, now, wait_for_condition, wait_until_quiet, writes
from tests.cluster.troubleshooting import Entry

NAMES = [fault.name for fault in FAULTS]
CRASHES_SECONDS = 25
"""In which a simulated container crashes twice."""


@pytest.fixture(scope="module")
def broken(installed: Cluster, operator: Operator) -> Iterator[dict[str, str]]:
    """The namespace of each fault."""
    places = {fault.name: f"{fault.name}-{secrets.token_hex(4)}" for fault in FAULTS}
    for place in places.values():
        installed.kubectl("create", "namespace", place)
    for fault in FAULTS:
        bring_about(installed, places[fault.name], fault)
    yield places
    installed.kubectl("delete", "namespace", *places.values(), "--wait=false")


def carried_out(cluster: Cluster, since: datetime, broken: dict[str, str]) -> list[AuditEvent]:
    """The operator's writes to the broken endpoints; what the API server refuses is tried again, and changes nothing."""
    found = writes(cluster, since)
    return [each for each in found if each.namespace in broken.values() and each.code < 400]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", FAULTS, ids=NAMES)
def test_a_fault_is_said_with_what_to_do(
    installed: Cluster,
    broken: dict[str, str],
    written: list[Entry] | None,
    recorder: Recorder,
    fault: Fault,
) -> None:
    namespace = broken[fault.name]
    resource = wait_for_condition(installed, namespace, NAME, fault.condition, "False", fault.reason)
    if not fault.serves:
        resource = wait_for_condition(installed, namespace, NAME, "Ready", "False", fault.reason)
    else:
        resource = wait_for_condition(installed, namespace, NAME)
    if fault.stalled:
        resource = wait_for_condition(installed, namespace, NAME, "Stalled", "True", fault.reason)
    assert condition(resource, "Stalled").get("status") == ("True" if fault.stalled else None)
    assert condition(resource, fault.condition)["reason"] == fault.reason
    message = condition(resource, fault.condition)["message"]
    for words in fault.words:
        assert words in message
    health = "Degraded" if fault.stalled else "Healthy" if fault.serves else "Progressing"
    recorder.note(fault.name, resource, health)
    entry = troubleshooting.entry(fault.symptom, fault.cure, resource, fault.condition)
    if written is not None:
        written.append(entry)
    else:
        assert troubleshooting.has(entry), "docs/troubleshooting.md is out of date: see troubleshooting.py"


@pytest.mark.timeout(600)
def test_a_fault_that_lasts_is_said_once(
    installed: Cluster, operator: Operator, broken: dict[str, str]
) -> None:
    """Containers crash and back off, images are tried again, controllers repeat themselves: no reason to write."""
    wait_until_quiet(installed)
    start = now()
    time.sleep(CRASHES_SECONDS)
    assert carried_out(installed, start, broken) == []
    assert operator.complaints() == []


@pytest.mark.timeout(600)
def test_a_restart_after_the_events_have_expired_writes_nothing(
    installed: Cluster, operator: Operator, broken: dict[str, str]
) -> None:
    """What was learned from them stands, as nothing contradicts it."""
    broken = {fault.name: broken[fault.name] for fault in FAULTS if fault.outlives_events}
    wait_until_quiet(installed)
    operator.stop()
    for namespace in broken.values():
        installed.kubectl("delete", "events", "--all", "-n", namespace, "--wait=false")
    before = {name: live(installed, place, NAME)["status"] for name, place in broken.items()}
    start = now()
    operator.start().wait_until_working()
    wait_until_quiet(installed, seconds=5)
    assert {name: live(installed, place, NAME)["status"] for name, place in broken.items()} == before
    assert carried_out(installed, start, broken) == []
    assert operator.complaints() == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", FAULTS, ids=NAMES)
def test_doing_what_the_status_says_mends_it(
    installed: Cluster, broken: dict[str, str], fault: Fault
) -> None:
    namespace = broken[fault.name]
    fault.mend(installed, namespace)
    resource = wait_for_condition(installed, namespace, NAME)
    assert condition(resource, "Stalled") == {}
    assert condition(resource, fault.condition).get("status") in ("True", None)


def test_the_page_has_no_fault_too_many(written: list[Entry] | None) -> None:
    if written is None:
        symptoms = [*(fault.symptom for fault in FAULTS), *troubleshooting.INSTALLATION]
        assert troubleshooting.symptoms() == sorted(symptoms)
        assert sorted("; ".join(troubleshooting.listed().values()).split("; ")) == sorted(symptoms)
        assert troubleshooting.PAGE.read_text().startswith(troubleshooting.HEAD)


@pytest.mark.timeout(300)
def test_a_registry_that_recovers_alarms_nobody(
    installed: Cluster, operator: Operator, namespace: str, tmp_path: Path
) -> None:
    with History(installed, namespace, tmp_path, "whisperendpoints") as history:
        installed.apply(endpoint(NAME, namespace, **simulated("image-pull")))
        wait_for_condition(installed, namespace, NAME, "Ready", "False", "ImagePullFailed")
        pods_recover(installed, namespace)
        wait_for_condition(installed, namespace, NAME)
        history.seen_up_to("whisperendpoints", NAME)
        assert [each for each in history.states() if condition(each.body, "Stalled")] == []
    events = installed.get("events", "-n", namespace)["items"]
    about = [each for each in events if each["involvedObject"]["kind"] == "WhisperEndpoint"]
    assert [each["reason"] for each in about if each["type"] == "Warning"] == []
