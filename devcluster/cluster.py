"""One development cluster: start it, talk to it, stop it."""

import json
import os
import re
import secrets
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from devcluster import build, control_plane, nodes, processes
from devcluster.audit import AuditEvent, AuditLog
from devcluster.errors import DevclusterError
from devcluster.gke import autopilot, stand_in
from devcluster.guardian import Guardian
from devcluster.paths import HERE, clusters
from devcluster.waiting import eventually

TOKEN_LIFETIME = "8760h"

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")


class Cluster:
    """A running cluster. Get one from `Cluster.start` (lives as long as this process) or `Cluster.named`."""

    def __init__(self, name: str, binaries: Path, guardian: Guardian | None = None) -> None:
        self.name = name
        self.folder = clusters() / name
        self.binaries = binaries
        """Folder with kubectl, kube-apiserver, kwokctl and the others."""
        self.kubeconfig = self.folder / "kubeconfig"
        """The administrator's kubeconfig."""
        self.audit_log = control_plane.logs(self.folder) / "audit.log"
        self._audit = AuditLog(self.audit_log)
        self._guardian = guardian
        self._stand_in: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, *, autopilot: bool = False, name: str | None = None, keep: bool = False) -> Self:
        """Start a cluster, in seconds once its binaries are built. Raises DevclusterError with what to do.

        Unless `keep`, it is ended when this process ends, however that happens. Several may run side by side.
        """
        chosen = name or f"run-{secrets.token_hex(4)}"
        folder = _folder(chosen)
        binaries = build.ensure()
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            raise DevclusterError(
                f"cluster {chosen} exists already: `python -m devcluster down --name {chosen}` removes it"
            ) from None
        cluster = cls(chosen, binaries, None if keep else Guardian(folder))
        try:
            cluster._bring_up()
            if autopilot:
                cluster.autopilot(True)
            (folder / "ready").touch()
        except BaseException:
            cluster.stop()
            raise
        return cluster

    @classmethod
    def named(cls, name: str) -> Self:
        """A cluster that another process has started and that is up. Raises DevclusterError if there is none."""
        folder = _folder(name)
        if not (folder / "ready").exists() or not processes.running(folder):
            raise DevclusterError(
                f"cluster {name} is not up: `python -m devcluster up --name {name}` starts it"
            )
        return cls(name, build.ensure())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the cluster; returns when its processes and its folder are gone. May be called again."""
        if self._guardian is not None:
            self._guardian.end()
            self._guardian = None
        else:
            processes.end(self.folder)
        if self._stand_in is not None:
            self._stand_in.wait()
            self._stand_in = None

    @property
    def server(self) -> str:
        """The API server's address, https://127.0.0.1:PORT."""
        return str(self._config()["clusters"][0]["cluster"]["server"])

    @property
    def pod_port(self) -> int:
        """Where `kubectl port-forward` to port 8000 of any simulated pod leads: who listens there stands for all of them."""
        return control_plane.pod_port(self.folder)

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        """What `kubectl ARGUMENTS` prints, as administrator. Raises DevclusterError with what it complained of."""
        done = subprocess.run(
            [self.binaries / "kubectl", f"--kubeconfig={self.kubeconfig}", *arguments],
            input=input if input is not None else "",
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"KUBECTL_KUBERC": "false"},
        )
        if done.returncode != 0:
            raise DevclusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects by server-side apply, as administrator, under the field manager `kubectl`."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kubectl("apply", "--server-side", "-f", "-", input=text)

    def get(self, *arguments: str) -> dict[str, Any]:
        """What `kubectl get ARGUMENTS -o json` prints, as an object."""
        answer: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return answer

    def audit(
        self,
        user: str | None = None,
        verbs: Collection[str] | None = None,
        since: datetime | None = None,
    ) -> list[AuditEvent]:
        """Requests that the API server has answered: of one user, of some verbs, since a time with zone (None: all)."""
        return self._audit.events(user, verbs, since)

    def kubeconfig_for(self, user: str, path: Path | None = None) -> Path:
        """A kubeconfig that acts as the ServiceAccount `user`, system:serviceaccount:NAMESPACE:NAME, for a year."""
        match user.split(":"):
            case ["system", "serviceaccount", namespace, name]:
                token = self.kubectl(
                    "create", "token", name, "-n", namespace, f"--duration={TOKEN_LIFETIME}"
                ).strip()
            case _:
                raise DevclusterError(f"{user!r} is not of the form system:serviceaccount:NAMESPACE:NAME")
        config = self._config()
        config["users"][0]["user"] = {"token": token}
        return _write_secret(path or self.folder / f"{namespace}.{name}.kubeconfig", config)

    def autopilot(self, on: bool) -> None:
        """Switch the admission policies of GKE Autopilot on or off; returns when that is in force."""
        autopilot.switch(self.kubectl, on)

    def _bring_up(self) -> None:
        control_plane.start(self.folder, self.binaries)
        _write_secret(self.kubeconfig, control_plane.admin_kubeconfig(self.folder))
        manifests = [str(path) for path in (HERE / "gke" / "crds", HERE / "gke" / "system.yaml")]
        self.kubectl(
            "apply", "--server-side", *(f"--filename={path}" for path in manifests), "--filename=-",
            input=yaml.safe_dump_all(nodes.all_nodes()),
        )  # fmt: skip
        self._stand_in = stand_in.start(self)
        # The first request for a new kind may be answered with 429, which its first user need not see: the stand-in has asked for
        # all others, kubectl tries again.
        eventually(
            lambda: self.kubectl("get", "podmonitorings", "-A") is not None, what="PodMonitorings served"
        )

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = yaml.safe_load(self.kubeconfig.read_text())
        return config


@contextmanager
def shared(*, autopilot: bool = False) -> Iterator[Cluster]:
    """The cluster named by $WHISPER_DEVCLUSTER if that is set, to save starting one; else a new one."""
    name = os.environ.get("WHISPER_DEVCLUSTER")
    if name:
        cluster = Cluster.named(name)
        cluster.autopilot(autopilot)
        yield cluster
        return
    with Cluster.start(autopilot=autopilot) as cluster:
        yield cluster


def _folder(name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise DevclusterError(
            f"{name!r} can't name a cluster: use up to 40 lower-case letters, digits and hyphens"
        )
    return clusters() / name


def _write_secret(path: Path, config: dict[str, Any]) -> Path:
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path
