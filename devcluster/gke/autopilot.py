"""Switches the admission policies of GKE Autopilot on and off in a running cluster."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from devcluster.errors import DevclusterError

POLICIES = Path(__file__).with_name("autopilot.yaml")

Kubectl = Callable[..., str]


def switch(kubectl: Kubectl, on: bool, timeout: float = 60.0) -> None:
    """Apply or remove the policies; returns when the API server acts accordingly (it reads them with a delay)."""
    if on:
        kubectl("apply", "--server-side", "-f", str(POLICIES))
    else:
        kubectl("delete", "--ignore-not-found", "-f", str(POLICIES))
    deadline = time.monotonic() + timeout
    while not all(acts is on for acts in _in_force(kubectl)):
        if time.monotonic() > deadline:
            raise DevclusterError(
                f"the Autopilot policies were not {'in' if on else 'out of'} force after {timeout:.0f} s:"
                " see `kubectl get mutatingadmissionpolicies,validatingadmissionpolicies -o yaml`"
            )
        time.sleep(0.1)


def _in_force(kubectl: Kubectl) -> list[bool]:
    """For pods and for Deployments: are they rewritten, are they refused?"""
    verdicts = []
    for template in (_pod, _deployment):
        try:
            answer = json.loads(
                _dry_run(kubectl, template({"cloud.google.com/gke-accelerator": "nvidia-l4"}))
            )
        except DevclusterError:  # refused while only the half of it is in force
            verdicts.append(False)
        else:
            verdicts.append(
                "autopilot.gke.io/resource-adjustment" in answer["metadata"].get("annotations", {})
            )
        try:
            _dry_run(kubectl, template({}))
        except DevclusterError as refusal:
            verdicts.append("GKE Warden rejected" in str(refusal))
        else:
            verdicts.append(False)
    return verdicts


def _dry_run(kubectl: Kubectl, thing: dict[str, Any]) -> str:
    return kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", input=json.dumps(thing))


def _pod(node_selector: dict[str, str]) -> dict[str, Any]:
    resources = {"limits": {"nvidia.com/gpu": "1"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "autopilot-probe-",
            "namespace": "default",
            "labels": {"app": "autopilot-probe"},
        },
        "spec": {
            "nodeSelector": node_selector,
            "containers": [{"name": "probe", "image": "probe", "resources": resources}],
        },
    }


def _deployment(node_selector: dict[str, str]) -> dict[str, Any]:
    pod = _pod(node_selector)
    labels = pod["metadata"]["labels"]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"generateName": "autopilot-probe-", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod["spec"]},
        },
    }
