"""A cluster leaves nothing behind, however its owner ends; several run side by side; nothing listens beyond loopback."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devcluster import Cluster, DevclusterError, processes
from devcluster.paths import HERE, clusters
from devcluster.waiting import eventually


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run python -m devcluster ARGUMENTS."""
    return subprocess.run(
        [sys.executable, "-m", "devcluster", *arguments],
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def listening(pids: set[int]) -> dict[int, str]:
    """Port -> local address, in hexadecimal, of the TCP sockets that these processes listen at."""
    sockets = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(descriptor))
            if match:
                sockets.add(match[1])
    found = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            address, port = fields[1].split(":")
            if fields[3] == "0A" and fields[9] in sockets:
                found[int(port, 16)] = address
    return found


def test_two_side_by_side_on_loopback_only_and_nothing_is_left(cluster: Cluster) -> None:
    with Cluster.start() as other:
        assert other.server != cluster.server
        assert other.folder != cluster.folder
        other.kubectl("create", "namespace", "only-in-the-other")
        assert "only-in-the-other" not in cluster.kubectl("get", "namespaces")

        pids = set(processes.running(other.folder))
        assert len(pids) == 6, "etcd, three of Kubernetes, kwok and the stand-in"
        sockets = listening(pids)
        assert len(sockets) >= 6
        assert set(sockets.values()) == {"0100007F"}, "127.0.0.1"
        folder = other.folder
    assert processes.running(folder) == []
    assert not folder.exists()
    assert cluster.kubectl("get", "--raw", "/readyz") == "ok"
    other.stop()  # again: nothing to do


def test_it_ends_when_its_owner_is_killed() -> None:
    program = "from devcluster import Cluster; c = Cluster.start(); print(c.folder, flush=True); input()"
    owner = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=HERE.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().strip())
        assert len(processes.running(folder)) == 6
        owner.send_signal(signal.SIGKILL)
    eventually(lambda: not processes.running(folder) and not folder.exists())


def test_it_ends_when_its_owner_is_killed_while_starting() -> None:
    name = f"killed-early-{os.getpid()}"
    program = f"from devcluster import Cluster; print('starting', flush=True); Cluster.start(name='{name}')"
    owner = subprocess.Popen([sys.executable, "-c", program], cwd=HERE.parent, stdout=subprocess.PIPE)
    folder = clusters() / name
    with owner:
        eventually(lambda: len(processes.running(folder)) >= 2, interval=0.02)
        owner.send_signal(signal.SIGKILL)
    eventually(lambda: not processes.running(folder) and not folder.exists())


def test_commands() -> None:
    name = f"test-commands-{os.getpid()}"  # checkouts may share $WHISPER_DEVCLUSTER_CACHE
    run("down", "--name", name)
    try:
        first = run("up", "--name", name)
        assert first.returncode == 0, first.stderr
        kubeconfig = run("kubeconfig", "--name", name).stdout.strip()
        assert f"export KUBECONFIG={kubeconfig}\n" in first.stdout
        assert run("kubeconfig", "--name", name, "--print").stdout == Path(kubeconfig).read_text()
        assert re.search(
            rf"^{name}  up  https://127\.0\.0\.1:\d+  6 processes", run("status").stdout, re.MULTILINE
        )

        cluster = Cluster.named(name)
        assert "gke-devcluster-t4-0" in cluster.kubectl("get", "nodes")
        again = run("up", "--name", name)
        assert "is up already" in again.stderr
        assert again.stdout == first.stdout
        with pytest.raises(DevclusterError, match=f"cluster {name} exists already"):
            Cluster.start(name=name)
    finally:
        down = run("down", "--name", name)
    assert down.returncode == 0, down.stderr
    assert processes.running(clusters() / name) == []
    assert not (clusters() / name).exists()
    missing = run("down", "--name", name)
    assert missing.returncode == 1
    assert f"there is no cluster {name}" in missing.stderr
    assert "python -m devcluster up --name" in run("kubeconfig", "--name", name).stderr


def test_the_users_own_kubeconfig_is_left_alone(tmp_path: Path) -> None:
    environment = os.environ | {"HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "mine")}
    program = "from devcluster import Cluster\nwith Cluster.start() as c: c.kubectl('get', 'nodes')"
    subprocess.run([sys.executable, "-c", program], cwd=HERE.parent, env=environment, check=True)
    assert not (tmp_path / "mine").exists()
    assert not (tmp_path / ".kube" / "config").exists()


def test_the_operator_runs_on_it_if_asked_and_stays() -> None:
    name = f"test-{os.getpid()}-operator"
    try:
        first = run("up", "--name", name)
        assert "up --operator` starts this checkout's" in first.stderr, (
            "an installation there would only seem to work"
        )
        assert run("up", "--name", name, "--operator").returncode == 0
        cluster = Cluster.named(name)
        count = len(processes.running(cluster.folder))
        again = run("up", "--name", name, "--operator")
        assert "no operator" not in again.stderr
        assert len(processes.running(cluster.folder)) == count == 7
        cluster.kubectl("apply", "-f", str(HERE.parent / "examples" / "minimal.yaml"))
        cluster.kubectl("wait", "--for=condition=Ready", "--timeout=60s", "whisperendpoint/whisper")
    finally:
        run("down", "--name", name)
    assert processes.running(clusters() / name) == []
