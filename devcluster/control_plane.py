"""Starts etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok with kwokctl."""

import base64
import subprocess
from pathlib import Path
from typing import Any

import yaml

from devcluster import build, processes, stages
from devcluster.errors import DevclusterError
from devcluster.paths import HERE
from devcluster.ports import free_ports

NAME = "devcluster"
"""kwokctl's name for the cluster; each has a state folder of its own, so that all may share one."""

PORTS = (
    "kubeApiserverPort",
    "etcdPort",
    "etcdPeerPort",
    "kubeControllerManagerPort",
    "kubeSchedulerPort",
    "kwokControllerPort",
)

SERVED = 8000
"""The port of pods that leads to one of this machine, on which a real server can stand for all of them."""


def start(folder: Path, binaries: Path) -> None:
    """Start a control plane whose state lives in `folder`; returns when its API server answers. Its log: kwokctl.log."""
    (folder / "kwokctl.yaml").write_text(_configuration(binaries))
    environment = processes.environment(folder) | {
        "KWOK_WORKDIR": str(folder / "kwok"),
        "KUBECONFIG": str(folder / "kwokctl.kubeconfig"),  # never the user's own
    }
    command = [
        str(binaries / "kwokctl"),
        "create",
        "cluster",
        f"--name={NAME}",
        f"--config={folder / 'kwokctl.yaml'}",
        "--wait=60s",
    ]
    with (folder / "kwokctl.log").open("w") as log:
        done = subprocess.run(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
        )
    if done.returncode != 0:
        said = (folder / "kwokctl.log").read_text()[-2000:]
        raise DevclusterError(
            f"kwokctl could not start the control plane; logs are in {logs(folder)}:\n{said}"
        )


def pod_port(folder: Path) -> int:
    """The port of this machine that `kubectl port-forward` leads to, from port 8000 of any simulated pod."""
    documents = yaml.safe_load_all((folder / "kwokctl.yaml").read_text())
    (forward,) = [each for each in documents if each["kind"] == "ClusterPortForward"]
    return int(forward["spec"]["forwards"][0]["target"]["port"])


def logs(folder: Path) -> Path:
    """The folder with the components' logs and the audit log."""
    return _state(folder) / "logs"


def admin_kubeconfig(folder: Path) -> dict[str, Any]:
    """The administrator's kubeconfig with certificates in it instead of paths, so that it can be copied anywhere."""
    config: dict[str, Any] = yaml.safe_load((_state(folder) / "kubeconfig.yaml").read_text())
    for entry, fields in (
        (config["clusters"][0]["cluster"], ("certificate-authority",)),
        (config["users"][0]["user"], ("client-certificate", "client-key")),
    ):
        for field in fields:
            entry[f"{field}-data"] = base64.b64encode(Path(entry.pop(field)).read_bytes()).decode()
    return config


def _state(folder: Path) -> Path:
    return folder / "kwok" / "clusters" / NAME


def _configuration(binaries: Path) -> str:
    """kwokctl.yaml with what differs from machine to machine, where pods' ports lead, and the stages that pods and nodes go
    through."""
    config = yaml.safe_load((HERE / "kwokctl.yaml").read_text())
    config["options"] |= {
        "kubeVersion": build.pinned("k8s.io/kubernetes", (HERE / "kubernetes" / "go.mod").read_text()),
        "kubeAuditPolicy": str(HERE / "audit-policy.yaml"),
        "kubeApiserverBinary": str(binaries / "kube-apiserver"),
        "kubeControllerManagerBinary": str(binaries / "kube-controller-manager"),
        "kubeSchedulerBinary": str(binaries / "kube-scheduler"),
        "kwokControllerBinary": str(binaries / "kwok"),
        "kubectlBinary": str(binaries / "kubectl"),
        "etcdBinary": str(binaries / "etcd"),
        # Only used for snapshots, which are never taken, but downloaded if not named.
        "etcdctlBinary": str(binaries / "etcd"),
        "etcdutlBinary": str(binaries / "etcd"),
        **dict(zip(PORTS, free_ports(len(PORTS)), strict=True)),
    }
    return str(yaml.safe_dump_all([config, _port_forward(), *stages.all_stages()], sort_keys=False))


def _port_forward() -> dict[str, Any]:
    (port,) = free_ports(1)
    target = {"address": "127.0.0.1", "port": port}
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "ClusterPortForward",
        "metadata": {"name": "pods"},
        "spec": {"forwards": [{"ports": [SERVED], "target": target}]},
    }
