"""Whether there are nodes with the GPU that an endpoint asks for, and whether they offer it."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from whisper_operator.accelerators import GKE_LABEL
from whisper_operator.doctor.facts import Facts
from whisper_operator.doctor.finding import ERROR, WARNING, Finding, Gap, Result, Subject, Well, command
from whisper_operator.doctor.views import View
from whisper_operator.kube.kinds import NODE
from whisper_operator.kube.objects import Raw, condition
from whisper_operator.spec.endpoint import Gpu, WhisperEndpoint

YOUNG = timedelta(minutes=10)
"""For so long a node may be without its GPU, as the driver is being installed."""
SHOWN = 3
"""Nodes that are named."""


def check(facts: Facts, view: View) -> Iterator[Result]:
    gpu = view.endpoint.gpu if isinstance(view.endpoint, WhisperEndpoint) else None
    if gpu is None or view.suspended or (view.is_known and not view.installations):
        return
    if isinstance(facts.nodes, Gap):
        yield facts.nodes.finding("GPU nodes")
        return
    if view.conditions is None and not any(each.settings is not None for each in view.installations):
        yield Gap("read the installation's configuration, which says what labels nodes have", "").finding(
            "GPU nodes"
        )
        return
    yield from _of(gpu, facts.nodes, facts.now)


def _of(gpu: Gpu, nodes: tuple[Raw, ...], now: datetime) -> Iterator[Result]:
    labels = {
        **gpu.offered.node_selector,
        **(gpu.offered.spot.node_selector if gpu.spot and gpu.offered.spot else {}),
    }
    subject = Subject("GPU", gpu.type + (" (spot)" if gpu.spot else ""))
    words = ",".join(f"{name}={value}" for name, value in labels.items())
    found = [each for each in nodes if labels.items() <= (each["metadata"].get("labels") or {}).items()]
    show = command("kubectl", "get", "nodes", "-l", words)
    on_gke = GKE_LABEL in labels
    if not found:
        yield Finding(
            WARNING,
            "GPUNodesMissing",
            subject,
            f"No node has the label {words}. Where nodes are made on demand, one comes within 15 minutes of a pod that waits for "
            "it; else pods wait for ever.",
            "Add a node pool with that GPU, or choose another spec.accelerator.",
            "gcloud container node-pools create NAME --cluster=CLUSTER --machine-type=MACHINE --num-nodes=1 "
            + command(f"--accelerator=type={gpu.type},count=1,gpu-driver-version=latest")
            if on_gke
            else show,
        )
        return
    usable = [each for each in found if _takes_pods(each)]
    if not usable:
        yield Finding(
            ERROR,
            "GPUNodesNotReady",
            subject,
            f"Of the nodes with {words}, none is ready and takes pods: {_names(found)}.",
            "Mend them, uncordon them, or add others.",
            show,
        )
        return
    broken = [each for each in usable if not _offers(each, gpu.offered.resource)]
    if not broken:
        yield Well(f"{len(usable)} {'nodes offer' if len(usable) > 1 else 'node offers'} {subject}")
        return
    young = all(
        now - datetime.fromisoformat(each["metadata"]["creationTimestamp"]) < YOUNG for each in broken
    )
    install = (
        "a new node takes some minutes for it. Where the node pool was made without drivers, have GKE install them:"
        if on_gke
        else "see whether NVIDIA's device plugin runs there:"
    )
    update = "gcloud container node-pools update NAME --cluster=CLUSTER --accelerator="
    yield Finding(
        ERROR if len(broken) == len(usable) and not young else WARNING,
        "GPUDriverMissing",
        subject,
        f"{NODE.name} {_names(broken)} {'have' if len(broken) > 1 else 'has'} the label {words} and no {gpu.offered.resource} to "
        f"give: the GPU's driver or its device plugin is not installed there, or broken. {len(usable) - len(broken)} of "
        f"{len(usable)} such nodes can give one.",
        f"Install the driver; {install}",
        update + command(f"type={gpu.type},count=1,gpu-driver-version=latest")
        if on_gke
        else command("kubectl", "describe", "node", broken[0]["metadata"]["name"]),
    )


def _takes_pods(node: Raw) -> bool:
    return condition(node["status"], "Ready").get("status") == "True" and not node["spec"].get(
        "unschedulable"
    )


def _offers(node: Raw, resource: str) -> bool:
    return str((node["status"].get("allocatable") or {}).get(resource) or "0") != "0"


def _names(nodes: list[Raw]) -> str:
    names = sorted(each["metadata"]["name"] for each in nodes)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
