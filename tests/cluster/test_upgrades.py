"""What the installation changes of pods goes out one by one, on a real control plane: order, pace, failure, restart, pause.

$WHISPER_UPGRADE_ENDPOINTS says how many endpoints are upgraded in the first test, $WHISPER_UPGRADE_SETTLE_SECONDS for how long
each has to serve; `pytest -s` shows at what pace.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from whisper_operator.kube.kinds import PAUSED_ANNOTATION, UPGRADING_ANNOTATION

from devcluster import Cluster
from devcluster.installation import IMAGES, Operator
from tests.cluster.history import History
from tests.cluster.support import (
    condition,
    endpoint,
    live,
    patch,
    until,
    wait_for_condition,
    wait_until_quiet,
)

MANY = int(os.environ.get("WHISPER_UPGRADE_ENDPOINTS", "5"))
SETTLE = int(os.environ.get("WHISPER_UPGRADE_SETTLE_SECONDS", "3"))
OLD = {"settleSeconds": SETTLE, "server": IMAGES}
NEW = {**OLD, "server": {**IMAGES, "version": "0.2.0"}}
LAB = {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}
NOWHERE = {**LAB, "no-such": "node"}


def table(selector: dict[str, str]) -> dict[str, Any]:
    """An installation whose GPUs are on nodes with these labels."""
    tolerations = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    return {
        "settleSeconds": SETTLE,
        "accelerators": {"lab": {"nodeSelector": selector, "tolerations": tolerations}},
    }


def deployments(cluster: Cluster, namespace: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in cluster.get("deployments", "-n", namespace)["items"]}


def versions(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Of each endpoint's image."""
    found = deployments(cluster, namespace).items()
    return {name: image_of(body).split(":")[1].split("-")[0] for name, body in found}


def image_of(deployment: dict[str, Any]) -> str:
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


def reason(cluster: Cluster, namespace: str, name: str) -> tuple[str, str]:
    ready = condition(live(cluster, namespace, name), "Ready")
    return ready.get("status", ""), ready.get("reason", "")


def is_marked(cluster: Cluster, namespace: str, name: str) -> bool:
    """Whether a Deployment says that it is on its way."""
    return UPGRADING_ANNOTATION in deployments(cluster, namespace)[name]["metadata"]["annotations"]


def unavailable(deployment: dict[str, Any]) -> bool:
    status = deployment.get("status", {})
    return bool(status.get("availableReplicas", 0) < deployment["spec"]["replicas"])


@pytest.fixture
def endings(alone: None) -> Iterator[list[Operator]]:
    """Operators of a test, one after the other, of which the last is ended."""
    started: list[Operator] = []
    yield started
    if started and started[-1].exit_status() is None:
        started[-1].stop()


def installed_with(cluster: Cluster, settings: dict[str, Any], started: list[Operator]) -> Operator:
    """The operator with other settings, in place of the one before."""
    if started:
        started[-1].stop()
    started.append(Operator(cluster, settings).start().wait_until_working())
    return started[-1]


def settled(operator: Operator) -> None:
    """The last has served for a while."""
    until(lambda: operator.metric("whisper_operator_upgrades", state="rolling") == 0, "nobody on the way", 60)


@pytest.mark.timeout(300 + 40 * MANY)
def test_another_server_version_goes_to_one_endpoint_after_the_other(
    installed: Cluster, endings: list[Operator], namespace: str, tmp_path: Path
) -> None:
    """Without a second pod beside the old one, so that each is down for a moment: never two at a time."""
    names = [f"e{number:02}" for number in range(MANY)]
    installed_with(installed, OLD, endings)
    installed.apply(*(endpoint(name, namespace, device="cpu", rollout="Recreate") for name in names))
    for name in names:
        wait_for_condition(installed, namespace, name)
    with History(installed, namespace, tmp_path, "deployments") as history:
        start = history.seen_up_to("deployments", names[0])
        operator = installed_with(installed, NEW, endings)
        began = time.monotonic()
        until(lambda: operator.metric("whisper_operator_upgrades", state="waiting"), "some wait")
        assert reason(installed, namespace, names[-1]) == ("True", "UpgradePending")
        operator = installed_with(installed, NEW, endings)  # which keeps the place
        until(
            lambda: set(versions(installed, namespace).values()) == {"0.2.0"}, "all upgraded", 150 + 40 * MANY
        )
        for name in names:
            wait_for_condition(installed, namespace, name, reason="Ready")
        settled(operator)
        took = time.monotonic() - began
        wait_until_quiet(installed)
        states = history.states(since=start)
    down: set[str] = set()
    order: list[str] = []
    most_down = 0
    for state in states:
        name = state.body["metadata"]["name"]
        (down.add if unavailable(state.body) else down.discard)(name)
        most_down = max(most_down, len(down))
        assert len(down) <= 1, f"{sorted(down)} are down at once"
        if ":0.2.0" in image_of(state.body) and name not in order:
            order.append(name)
    assert order == names
    assert most_down == 1, "or nobody has looked"
    print(
        f"{len(names)} endpoints in {took:.1f} s, {took / len(names):.2f} s each, at most {most_down} down: {', '.join(order)}"
    )
    for body in deployments(installed, namespace).values():
        assert UPGRADING_ANNOTATION not in body["metadata"]["annotations"]
        assert int(body["metadata"]["annotations"]["deployment.kubernetes.io/revision"]) == 2


@pytest.mark.timeout(300)
def test_one_that_fails_stops_the_others_until_it_is_mended(
    installed: Cluster, endings: list[Operator], namespace: str
) -> None:
    """The platform team's own table of accelerators is wrong, and half an hour passes."""
    installed_with(installed, table(LAB), endings)
    gpu = {"accelerator": {"type": "lab"}}
    installed.apply(*(endpoint(name, namespace, **gpu) for name in "abc"))
    for name in "abc":
        wait_for_condition(installed, namespace, name)
    installed_with(installed, table(NOWHERE), endings)
    wait_for_condition(installed, namespace, "a", "Ready", "False", "Unschedulable")
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    installed.kubectl(
        *("patch", "deployment", "a", "-n", namespace, "--subresource=status"),
        *("--type=strategic", "-p", json.dumps({"status": {"conditions": [late]}})),
    )
    stuck = wait_for_condition(installed, namespace, "a", "Stalled", "True", "RolloutStuck")
    assert "no other endpoint is upgraded" in condition(stuck, "Ready")["message"]
    assert condition(stuck, "Available")["status"] == "True"  # its old pod serves

    assert reason(installed, namespace, "c") == ("True", "UpgradePending")
    operator = installed_with(installed, table(NOWHERE), endings)
    until(lambda: operator.metric("whisper_operator_upgrades", state="failed"), "it is known anew")
    assert any("The upgrade of WhisperEndpoint a" in line["message"] for line in operator.complaints())
    patch(installed, namespace, name="c", accelerator={"type": "nvidia-tesla-t4"})  # its own never waits
    wait_for_condition(installed, namespace, "c", reason="Ready")
    installed.kubectl("scale", "wep", "b", "-n", namespace, "--replicas=2")

    def scaled() -> bool:
        return bool(deployments(installed, namespace)["b"].get("status", {}).get("availableReplicas") == 2)

    until(scaled, "replicas while the upgrade waits")
    wait_for_condition(installed, namespace, "b", reason="UpgradePending")

    installed_with(installed, table(LAB), endings)
    for name in "abc":
        wait_for_condition(installed, namespace, name, reason="Ready")
    wait_until_quiet(installed)
    found = deployments(installed, namespace)
    revisions = {
        name: body["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
        for name, body in found.items()
    }
    assert revisions["b"] == "1"  # nobody has touched its pods
    assert found["b"]["spec"]["replicas"] == 2


@pytest.mark.timeout(300)
def test_an_endpoint_and_all_are_paused(installed: Cluster, endings: list[Operator], namespace: str) -> None:
    installed_with(installed, OLD, endings)
    installed.apply(*(endpoint(name, namespace, device="cpu") for name in "ab"))
    for name in "ab":
        wait_for_condition(installed, namespace, name)
    installed.kubectl("annotate", "wep", "a", "-n", namespace, f"{PAUSED_ANNOTATION}=true")
    operator = installed_with(installed, {**NEW, "paused": True}, endings)
    for name in "ab":
        wait_for_condition(installed, namespace, name, reason="UpgradePending")
    assert operator.metric("whisper_operator_upgrades", state="paused") == 2
    assert versions(installed, namespace) == {"a": "0.1.0", "b": "0.1.0"}
    installed_with(installed, NEW, endings)
    wait_for_condition(installed, namespace, "b", reason="Ready")
    assert versions(installed, namespace) == {"a": "0.1.0", "b": "0.2.0"}
    assert is_marked(installed, namespace, "b")
    later = {"server": {**IMAGES, "version": "0.3.0"}, "paused": True}
    installed_with(
        installed, later, endings
    )  # which sees that it has served for a while, and writes nothing else
    until(lambda: not is_marked(installed, namespace, "b"), "the mark is off", 60)
    assert versions(installed, namespace) == {"a": "0.1.0", "b": "0.2.0"}
    installed_with(installed, NEW, endings)
    installed.kubectl("scale", "wep", "a", "-n", namespace, "--replicas=2")
    until(
        lambda: deployments(installed, namespace)["a"]["spec"]["replicas"] == 2, "its replicas, all the same"
    )
    installed.kubectl("annotate", "wep", "a", "-n", namespace, f"{PAUSED_ANNOTATION}-")
    until(lambda: versions(installed, namespace)["a"] == "0.2.0", "its upgrade")
    wait_for_condition(installed, namespace, "a", reason="Ready")
    wait_until_quiet(installed)
    assert deployments(installed, namespace)["a"]["spec"]["replicas"] == 2


@pytest.mark.timeout(300)
def test_an_upgrade_that_somebody_brings_back_leaves_no_mark(
    installed: Cluster, endings: list[Operator], namespace: str
) -> None:
    """Kubernetes keeps a Deployment's annotations with each revision: that it was on its way, too. Should the endpoint ever fail
    by then, nobody else would be upgraded."""
    installed_with(installed, OLD, endings)
    installed.apply(endpoint("a", namespace, device="cpu"))
    wait_for_condition(installed, namespace, "a")
    operator = installed_with(installed, NEW, endings)
    until(lambda: versions(installed, namespace)["a"] == "0.2.0", "its upgrade")
    wait_for_condition(installed, namespace, "a", reason="Ready")
    settled(operator)
    patch(installed, namespace, name="a", defaults={"language": "de"})
    wait_for_condition(installed, namespace, "a", reason="Ready")
    wait_until_quiet(installed)
    before = deployments(installed, namespace)["a"]
    revisions = installed.get("replicasets", "-n", namespace)["items"]
    assert any(UPGRADING_ANNOTATION in each["metadata"]["annotations"] for each in revisions)
    installed.kubectl("rollout", "undo", "deployment/a", "-n", namespace)

    def back() -> bool:
        after = deployments(installed, namespace)["a"]
        return bool(
            after["spec"] == before["spec"]
            and after["metadata"]["generation"] > before["metadata"]["generation"]
            and UPGRADING_ANNOTATION not in after["metadata"]["annotations"]
        )

    until(back, "the Deployment as it was")
    wait_for_condition(installed, namespace, "a", reason="Ready")
    wait_until_quiet(installed)
    assert back()
