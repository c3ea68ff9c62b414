"""A real Kubernetes control plane on this machine, without containers or a cloud.

`with Cluster.start() as cluster:` gives etcd, kube-apiserver, kube-controller-manager and kube-scheduler, nodes and pods
that kwok simulates, and a stand-in for the controllers that GKE adds. `python -m devcluster up` does the same from a shell.
"""

from devcluster.audit import AuditEvent
from devcluster.cluster import Cluster
from devcluster.errors import DevclusterError

__all__ = ["AuditEvent", "Cluster", "DevclusterError"]
