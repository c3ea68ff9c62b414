"""A control plane that was put back to a backup: what the operator knows is of a time that never was."""

import shutil
import subprocess
from pathlib import Path

import pytest

from devcluster import Cluster, processes
from devcluster.installation import Operator, install
from tests.cluster.support import children, endpoint, exists, patch, until


def control_plane(cluster: Cluster, command: str) -> None:
    """Stop or start etcd, the API server and the rest."""
    environment = processes.environment(cluster.folder) | {"KWOK_WORKDIR": str(cluster.folder / "kwok")}
    done = subprocess.run(
        [str(cluster.binaries / "kwokctl"), "--name=devcluster", command, "cluster", "--wait=60s"][
            : 4 if command == "stop" else 5
        ],
        env=environment,
        cwd=cluster.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def etcd(cluster: Cluster) -> Path:
    return cluster.folder / "kwok" / "clusters" / "devcluster" / "etcd"


def replicas(cluster: Cluster, name: str) -> int:
    number: int = children(cluster, "default")[f"Deployment/{name}"]["spec"]["replicas"]
    return number


@pytest.mark.timeout(600)
def test_a_cluster_put_back_to_a_backup_is_taken_as_it_is() -> None:
    with Cluster.start() as cluster:
        install(cluster)
        with Operator(cluster) as operator:
            operator.wait_until_working()
            cluster.apply(endpoint("before", "default", device="cpu"))
            until(lambda: "Deployment/before" in children(cluster, "default"), "its children")
            control_plane(cluster, "stop")
            shutil.copytree(etcd(cluster), cluster.folder / "backup")
            control_plane(cluster, "start")
            until(lambda: exists(cluster, "default", "wep", "before"), "the control plane back")

            cluster.apply(endpoint("after", "default", device="cpu"))
            until(lambda: "Deployment/after" in children(cluster, "default"), "its children")
            # So that versions of the time to come are far behind those that are known, of what is there again, too.
            for turn in range(100):
                cluster.kubectl("label", "wep", "before", "after", f"turn={turn}", "--overwrite")
            control_plane(cluster, "stop")
            shutil.rmtree(etcd(cluster))
            shutil.copytree(cluster.folder / "backup", etcd(cluster))
            control_plane(cluster, "start")
            until(lambda: exists(cluster, "default", "wep", "before"), "the control plane back")

            patch(cluster, "default", name="before", replicas=2)
            cluster.apply(endpoint("anew", "default", device="cpu"))
            until(lambda: "Deployment/anew" in children(cluster, "default"), "its children")
            until(lambda: replicas(cluster, "before") == 2, "the spec carried out")
            cluster.kubectl("delete", "service", "before")
            until(lambda: "Service/before" in children(cluster, "default"), "the Service back")
            assert not exists(cluster, "default", "wep", "after")
            assert "Service/after" not in children(cluster, "default")
            assert operator.exit_status() is None
            assert any("as it was once before" in str(line["message"]) for line in operator.log())
