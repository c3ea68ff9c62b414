"""An endpoint that Argo CD or Flux applies: its health in each state, nothing that shows as drift, and a deletion that ends."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from whisper_operator.kube.kinds import PAUSED_ANNOTATION

from devcluster import Cluster, DevclusterError
from devcluster.installation import IMAGES, Operator
from tests.cluster.health import CHECK, Recorder
from tests.cluster.history import History
from tests.cluster.support import (
    EXAMPLES,
    children,
    condition,
    endpoint,
    live,
    now,
    patch,
    stopped,
    until,
    wait_for_condition,
    wait_until_quiet,
    writes,
)
from tests.unit.commands import texts

NAME = "whisper"
HOLD = "example.com/hold"


@pytest.mark.timeout(300)
def test_health_on_an_endpoints_way(
    installed: Cluster, operator: Operator, namespace: str, recorder: Recorder, tmp_path: Path
) -> None:
    spec = {"device": "cpu", "host": f"{namespace}.example.com"}
    with stopped(operator):
        installed.apply(endpoint(NAME, namespace, **spec))
        resource = live(installed, namespace, NAME)
        assert resource["status"] == {"observedGeneration": -1}
        recorder.note("not-seen", resource, "Progressing")
    with History(installed, namespace, tmp_path, "whisperendpoints") as history:
        recorder.note("ready", wait_for_condition(installed, namespace, NAME), "Healthy")
        patch(installed, namespace, defaults={"language": "de"})
        wait_for_condition(installed, namespace, NAME)
        history.seen_up_to("whisperendpoints", NAME)
        reasons = {
            (
                state.body["metadata"]["generation"] > 1,
                condition(state.body, "Ready").get("reason"),
            ): state.body
            for state in history.states()
        }
    recorder.note("new", reasons[(False, "RollingOut")], "Progressing")
    recorder.note("address-pending", reasons[(False, "AddressPending")], "Progressing")
    recorder.note("changing", reasons[(True, "RollingOut")], "Progressing")

    with stopped(operator):
        patch(installed, namespace, suspend=True)
        recorder.note("suspend-not-seen", live(installed, namespace, NAME), "Progressing")
    resource = wait_for_condition(installed, namespace, NAME, reason="Suspended")
    recorder.note("suspended", resource, "Suspended")
    with stopped(operator):
        patch(installed, namespace, suspend=False)
        recorder.note("resume-not-seen", live(installed, namespace, NAME), "Progressing")
    wait_for_condition(installed, namespace, NAME, reason="Ready")

    installed.kubectl("annotate", "wep", NAME, "-n", namespace, f"{PAUSED_ANNOTATION}=true")
    operator.stop()
    operator.configure({"server": {**IMAGES, "version": "0.2.0"}})
    operator.start().wait_until_working()
    resource = wait_for_condition(installed, namespace, NAME, reason="UpgradePending")
    recorder.note("upgrade-pending", resource, "Healthy")

    hold(installed, namespace, [HOLD])
    installed.kubectl("delete", "wep", NAME, "-n", namespace, "--wait=false")
    recorder.note("deleted", live(installed, namespace, NAME), "Progressing")
    hold(installed, namespace, None)


def hold(cluster: Cluster, namespace: str, finalizers: list[str] | None) -> None:
    change = json.dumps({"metadata": {"finalizers": finalizers}})
    cluster.kubectl("patch", "wep", NAME, "-n", namespace, "--type=merge", "-p", change)


ARGO_CD = "argocd-controller"
"""Argo CD's field manager, for server-side apply and for its diff."""


def tracked(path: Path, namespace: str) -> list[dict[str, Any]]:
    """The endpoints of a file as Argo CD and Flux would apply them: with the marks by which they find what is theirs again."""
    found = []
    for body in yaml.safe_load_all(path.read_text()):
        if body["kind"] != "WhisperEndpoint":
            continue
        name = body["metadata"]["name"]
        marks = {
            "labels": {
                "app.kubernetes.io/instance": "speech",
                "kustomize.toolkit.fluxcd.io/name": "speech",
                "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
            },
            "annotations": {
                "argocd.argoproj.io/tracking-id": f"speech:whisper-operator.io/WhisperEndpoint:{namespace}/{name}",
                "argocd.argoproj.io/sync-wave": "0",
            },
        }
        found.append({**body, "metadata": {"name": name, "namespace": namespace, **marks}})
    return found


def sync(cluster: Cluster, *bodies: dict[str, Any]) -> None:
    text = yaml.safe_dump_all(bodies)
    cluster.kubectl(
        *("apply", "--server-side", f"--field-manager={ARGO_CD}", "--force-conflicts", "-f", "-"), input=text
    )


def difference(cluster: Cluster, *bodies: dict[str, Any]) -> str:
    """The server-side diff of Argo CD: empty if a sync would change nothing, else the command that says so."""
    text = yaml.safe_dump_all(bodies)
    command = ("diff", "--server-side", f"--field-manager={ARGO_CD}", "--force-conflicts", "-f", "-")
    try:
        return cluster.kubectl(*command, input=text)
    except DevclusterError as error:
        if not str(error).endswith(": "):  # a complaint, and no difference, which goes to standard output
            raise
        return str(error)


def wait_until_told(cluster: Cluster, namespace: str, names: list[str]) -> None:
    """Of their current specs, whatever it is."""

    def look() -> bool:
        found = [live(cluster, namespace, name) for name in names]
        return all(each["status"]["observedGeneration"] == each["metadata"]["generation"] for each in found)

    until(look, f"the status of {', '.join(names)}")
    wait_until_quiet(cluster)


@pytest.mark.timeout(300)
def test_no_example_shows_as_drift_and_no_child_as_the_applications_own(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    files = sorted(EXAMPLES.glob("*.yaml"))
    bodies = {body["metadata"]["name"]: body for path in files for body in tracked(path, namespace)}
    assert len(bodies) > 5
    sync(installed, *bodies.values())
    wait_until_told(installed, namespace, list(bodies))
    assert difference(installed, *bodies.values()) == ""

    uids = {live(installed, namespace, name)["metadata"]["uid"] for name in bodies}
    found = children(installed, namespace)
    assert {body["kind"] for body in found.values()} >= {"Deployment", "Service", "Ingress"}
    pods = installed.get("pods", "-n", namespace)["items"]
    for body in (*found.values(), *pods):
        metadata = body["metadata"]
        marks = metadata["labels"].keys() | metadata.get("annotations", {}).keys()
        assert not [each for each in marks if "argoproj" in each or "fluxcd" in each or "/instance" in each]
    for body in found.values():  # by which Argo CD's tree shows them, and a deletion in the foreground waits
        (owner,) = body["metadata"]["ownerReferences"]
        assert owner["uid"] in uids
        assert (owner["controller"], owner["blockOwnerDeletion"]) == (True, True)

    # Another application takes them over: nothing of what runs changes.
    start = now()
    for body in bodies.values():
        body["metadata"]["labels"]["app.kubernetes.io/instance"] = "other"
    sync(installed, *bodies.values())
    wait_until_quiet(installed)
    assert writes(installed, start, namespace) == []
    assert difference(installed, *bodies.values()) == ""
    assert operator.complaints() == []


@pytest.mark.timeout(300)
def test_replicas_are_drift_only_where_the_application_sets_them(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    """docs/argocd.md says what to ignore, for those who scale by hand."""
    (body,) = tracked(EXAMPLES / "cpu.yaml", namespace)
    name = body["metadata"]["name"]
    body["spec"].pop("replicas", None)
    sync(installed, body)
    wait_until_told(installed, namespace, [name])
    installed.kubectl("scale", "wep", name, "-n", namespace, "--replicas=2")
    wait_until_told(installed, namespace, [name])
    assert difference(installed, body) == ""
    sync(installed, body)
    assert live(installed, namespace, name)["spec"]["replicas"] == 2

    body["spec"]["replicas"] = 1
    assert difference(installed, body)
    sync(installed, body)
    assert live(installed, namespace, name)["spec"]["replicas"] == 1

    # Taken out of git, what was set by hand since stays; what git alone has said falls back to the default.
    installed.kubectl("scale", "wep", name, "-n", namespace, "--replicas=3")
    without = {**body, "spec": {key: value for key, value in body["spec"].items() if key != "replicas"}}
    sync(installed, without)
    assert live(installed, namespace, name)["spec"]["replicas"] == 3
    sync(installed, {**body, "spec": {**body["spec"], "replicas": 2}})
    sync(installed, without)
    assert live(installed, namespace, name)["spec"]["replicas"] == 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["foreground", "background", "orphan"])
def test_a_deletion_ends(installed: Cluster, operator: Operator, namespace: str, way: str) -> None:
    (body,) = tracked(EXAMPLES / "minimal.yaml", namespace)
    sync(installed, body)
    wait_for_condition(installed, namespace, NAME)
    before = children(installed, namespace)
    installed.kubectl("delete", "wep", NAME, "-n", namespace, f"--cascade={way}", "--timeout=60s")
    if way == "foreground":
        assert children(installed, namespace) == {}  # which it has waited for
    elif way == "background":
        until(lambda: children(installed, namespace) == {}, "the children gone")
    else:
        wait_until_quiet(installed)
        left = children(installed, namespace)
        assert left.keys() == before.keys()
        assert not any("ownerReferences" in each["metadata"] for each in left.values())
    assert operator.complaints() == []


DOCS = EXAMPLES.parent / "docs"


def test_the_commands_of_the_pages_do_what_they_say(installed: Cluster, namespace: str) -> None:
    """Argo CD's ConfigMap gets what it lacks, and keeps what it has."""
    page = (DOCS / "argocd.md").read_text()
    patches = re.findall(r"^kubectl patch configmap argocd-cm -n argocd (.*)$", page, re.MULTILINE)
    assert len(patches) == 2
    installed.kubectl(
        "create", "configmap", "argocd-cm", "-n", namespace, "--from-literal=url=https://argocd"
    )
    for arguments in patches:
        kind, file = arguments.split()
        path = EXAMPLES.parent / file.removeprefix("--patch-file=")
        # It names the namespace, which is another one here.
        text = path.read_text().replace("namespace: argocd", f"namespace: {namespace}")
        installed.kubectl("patch", "configmap", "argocd-cm", "-n", namespace, kind, "-p", text)
    data = installed.get("configmap", "argocd-cm", "-n", namespace)["data"]
    assert data.pop("url") == "https://argocd"
    assert data.pop("resource.customizations.health.argoproj.io_Application")
    key = "resource.customizations.health.whisper-operator.io_WhisperEndpoint"
    assert data == {key: (CHECK / "health.lua").read_text()}


@pytest.mark.parametrize("page", ["argocd.md", "flux.md"])
def test_what_the_pages_show_of_kinds_that_are_here_can_be_applied(
    installed: Cluster, namespace: str, page: str
) -> None:
    bodies = [body for text in texts(f"docs/{page}", "yaml") for body in yaml.safe_load_all(text)]
    here = [
        body
        for body in bodies
        if "argoproj.io" not in body["apiVersion"] and ".fluxcd." not in body["apiVersion"]
    ]
    assert len(here) == (2 if page == "argocd.md" else 0)
    for body in here:
        installed.kubectl(
            *("apply", "--server-side", "--dry-run=server", "-n", namespace, "-f", "-"),
            input=yaml.safe_dump(body),
        )
