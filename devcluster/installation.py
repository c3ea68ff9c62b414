"""whisper-operator on a development cluster: installed as `deploy/` does it, run from this checkout as a process.

It acts under the ServiceAccount and with the permissions that deploy/ installs, so that a missing permission shows here.
"""

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import yaml

from devcluster import processes
from devcluster.cluster import Cluster
from devcluster.errors import DevclusterError
from devcluster.paths import HERE
from devcluster.ports import free_ports
from devcluster.waiting import eventually

NAMESPACE = "whisper-operator"
USER = f"system:serviceaccount:{NAMESPACE}:whisper-operator"
"""The name under which the operator's requests stand in the audit log."""
WRITES = ("create", "update", "patch", "delete", "deletecollection")

CRD = HERE.parent / "crds" / "whisperendpoints.yaml"
IMAGES = {"repository": "registry.example.com/whisper-server", "version": "0.1.0"}


def install(cluster: Cluster, folder: str = "base") -> None:
    """Apply the CRD and a folder of deploy/, but for the Deployment: there are no containers here, `Operator` stands for it."""
    rendered = cluster.kubectl("kustomize", str(HERE.parent / "deploy" / folder))
    documents = [each for each in yaml.safe_load_all(rendered) if each["kind"] != "Deployment"]
    cluster.kubectl("apply", "--server-side", "-f", str(CRD), "-f", "-", input=yaml.safe_dump_all(documents))
    wait_for_kinds(cluster)


def wait_for_kinds(cluster: Cluster) -> None:
    """Wait until the API server serves every kind that was applied. Raises AssertionError after 30 s."""
    # At first a CustomResourceDefinition has `conditions: null`, which makes kubectl give up instead of waiting.
    eventually(
        lambda: cluster.kubectl("wait", "--for=condition=Established", "--timeout=5s", "crd", "--all"),
        what="the CustomResourceDefinitions are established",
    )


class Operator:
    """The operator as a process that ends with its cluster at the latest. It can be ended and started again.

    One of a name at a time on a cluster: a test that asks what one has done wants no other to do it.
    """

    _started: ClassVar[dict[Path, "Operator"]] = {}
    """By its own folder, the last."""

    def __init__(
        self,
        cluster: Cluster,
        settings: dict[str, Any] | None = None,
        *,
        server: str | None = None,
        name: str = "operator",
        namespace: str = NAMESPACE,
        policy: dict[str, Any] | None = None,
    ) -> None:
        """`server`: where it is to find the API server, such as a FaultProxy's url. `name`: another one's, to run beside it, as a
        replica or, with another `namespace`, as an installation of its own."""
        folder = cluster.folder / name
        folder.mkdir(exist_ok=True)
        self._namespace = namespace
        self.cluster = cluster
        self.log_path = folder / "log"
        (self._health_port,) = free_ports(1)
        self._config = folder / "config.yaml"
        self.configure(settings or {})
        self._server = server
        self._policy_path = folder / "policy.yaml"
        self._policy = policy or {}
        self._process: subprocess.Popen[bytes] | None = None
        # The cluster's operators write to the same file, one after the other.
        self._log_begin = self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0

    def start(self, *, stays: bool = False) -> Self:
        """Raises DevclusterError while another runs. `stays`: until its cluster ends, whatever becomes of this process and its
        terminal."""
        other = self._started.get(self._config.parent)
        if other is not None and other._process is not None and other._process.poll() is None:
            raise DevclusterError("an operator runs on this cluster already: stop it first")
        self._started[self._config.parent] = self
        self._config.write_text(yaml.safe_dump(self._settings))
        self.set_policy(self._policy)
        kubeconfig = self._access()
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "whisper_operator",
                    "run",
                    "--config",
                    str(self._config),
                    "--policy",
                    str(self._policy_path),
                ],
                env=processes.environment(self.cluster.folder) | {"KUBECONFIG": str(kubeconfig)},
                cwd=self.log_path.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=stays,
            )
        return self

    def configure(self, settings: dict[str, Any]) -> None:
        """Give it other settings, from its next start on."""
        self._settings = {"server": IMAGES, **settings, "healthPort": self._health_port}

    def set_policy(self, policy: dict[str, Any], *, wait: bool = True) -> None:
        """Put another policy before it, as when its ConfigMap changes, and wait until a running operator has seen it."""
        wait = wait and self._process is not None
        seen = self._told_of_policies() if wait else 0
        self._policy = policy
        new = self._policy_path.with_suffix(".new")
        new.write_text(yaml.safe_dump({"preset": "none", **policy}))
        new.rename(self._policy_path)
        if wait:
            eventually(lambda: self._told_of_policies() > seen, what="a line of the log about the new policy")

    def _told_of_policies(self) -> int:
        """How many lines of its log tell of one that it took up, or could not."""
        return sum(line["message"].startswith("The policy ") for line in self.log())

    def _access(self) -> Path:
        """Its kubeconfig."""
        user = f"system:serviceaccount:{self._namespace}:whisper-operator"
        kubeconfig = yaml.safe_load(self.cluster.kubeconfig_for(user).read_text())
        if self._server is not None:
            kubeconfig["clusters"][0]["cluster"] = {"server": self._server}
        kubeconfig["contexts"][0]["context"]["namespace"] = self._namespace
        path = self._config.with_name("kubeconfig")
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(kubeconfig))
        return path

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """End it; its exit status."""
        if self._process is None:
            raise DevclusterError("the operator was not started")
        self._process.send_signal(sign)
        status = self._process.wait(timeout=30)
        self._process = None
        return status

    def wait_until_working(self, timeout: float = 120.0) -> Self:
        """Until it says, since its last start, that everything is listed and its workers run."""
        deadline = time.monotonic() + timeout
        while b"Reconciling" not in self.log_path.read_bytes()[self._log_start :]:
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                raise DevclusterError(
                    f"the operator does not work; its log:\n{self.log_path.read_text()[-4000:]}"
                )
            time.sleep(0.05)
        return self

    @property
    def health_port(self) -> int:
        """Of 127.0.0.1, where /healthz, /readyz and /metrics are."""
        return self._health_port

    def ask(self, path: str) -> tuple[int, str]:
        """HTTP status and body of /healthz, /readyz or /metrics. Raises OSError while nothing answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._health_port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """The value of a sample on /metrics; 0.0 for one that is not there."""
        wanted = name + (
            "{" + ",".join(f'{key}="{value}"' for key, value in sorted(labels.items())) + "}"
            if labels
            else ""
        )
        for line in self.ask("/metrics")[1].splitlines():
            sample, _, value = line.rpartition(" ")
            if sample == wanted:
                return float(value)
        return 0.0

    @property
    def pid(self) -> int:
        if self._process is None:
            raise DevclusterError("the operator was not started")
        return self._process.pid

    def exit_status(self) -> int | None:
        """None while it runs."""
        return None if self._process is None else self._process.poll()

    def log(self) -> list[dict[str, Any]]:
        """Its log lines since it was first started; one that is no JSON stands as {"level": "RAW", "message": the line}."""
        text = self.log_path.read_bytes()[self._log_begin :].decode()
        return [_line(line) for line in text.splitlines()]

    def complaints(self) -> list[dict[str, Any]]:
        """Log lines of warnings, errors and tracebacks."""
        return [line for line in self.log() if line["level"] not in ("DEBUG", "INFO")]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.stop()


def _line(text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError:
        line = None
    return line if isinstance(line, dict) and "level" in line else {"level": "RAW", "message": text}
