"""The simulated nodes: GPU and CPU machines with the labels, taints and identities that GKE gives them.

They are larger than any real machine, so that a thousand endpoints fit and tests don't wait for capacity. An accelerator that
is not in the list has no node: its pods stay unschedulable, as on a cluster without such a node pool.
"""

from dataclasses import dataclass
from typing import Any

PROJECT = "devcluster"
REGION = "europe-west4"
ZONES = (f"{REGION}-a", f"{REGION}-b", f"{REGION}-c")

PODS = 2_000
"""Pods that a node holds; each GPU node has as many GPUs."""


@dataclass(frozen=True)
class Pool:
    """A node pool: `size` nodes, spread over the zones; no accelerator means a CPU pool."""

    name: str
    machine: str
    size: int
    accelerator: str | None = None
    spot: bool = False


POOLS = (
    Pool("default-pool", "e2-standard-8", 3),
    Pool("t4", "n1-standard-8", 3, "nvidia-tesla-t4"),
    Pool("t4-spot", "n1-standard-8", 1, "nvidia-tesla-t4", spot=True),
    Pool("l4", "g2-standard-8", 2, "nvidia-l4"),
    Pool("l4-spot", "g2-standard-8", 1, "nvidia-l4", spot=True),
)


def all_nodes() -> list[dict[str, Any]]:
    """A Node object for each simulated machine."""
    members = [(pool, number) for pool in POOLS for number in range(pool.size)]
    return [_node(pool, number, index) for index, (pool, number) in enumerate(members)]


def _node(pool: Pool, number: int, index: int) -> dict[str, Any]:
    zone = ZONES[number % len(ZONES)]
    name = f"gke-{PROJECT}-{pool.name}-{number}"
    labels = {
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
        "kubernetes.io/hostname": name,
        "node.kubernetes.io/instance-type": pool.machine,
        "topology.kubernetes.io/region": REGION,
        "topology.kubernetes.io/zone": zone,
        "cloud.google.com/gke-nodepool": pool.name,
        "cloud.google.com/machine-family": pool.machine.split("-")[0],
    }
    capacity = {"cpu": "32000", "memory": "256Ti", "ephemeral-storage": "256Ti", "pods": str(PODS)}
    taints = []
    if pool.accelerator is not None:
        labels |= {
            "cloud.google.com/gke-accelerator": pool.accelerator,
            "cloud.google.com/gke-accelerator-count": "1",
            "cloud.google.com/gke-gpu-driver-version": "default",
        }
        capacity["nvidia.com/gpu"] = str(PODS)
        taints.append({"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"})
    if pool.spot:
        labels |= {"cloud.google.com/gke-spot": "true", "cloud.google.com/gke-provisioning": "spot"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "spec": {
            "podCIDR": f"10.{64 + index}.0.0/16",
            "podCIDRs": [f"10.{64 + index}.0.0/16"],
            "providerID": f"gce://{PROJECT}/{zone}/{name}",
            "taints": taints,
        },
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "addresses": [
                {"type": "InternalIP", "address": f"10.164.0.{2 + index}"},
                {"type": "Hostname", "address": name},
                {
                    "type": "InternalDNS",
                    "address": "localhost",
                },  # by which the API server finds its kubelet, kwok
            ],
        },
    }
