"""`make demo`: an endpoint becomes real objects on a real control plane, and real speech becomes text.

With a terminal it stays until Ctrl-C, to be played with; without one it ends by itself, with status 0 if all went well.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from whisper_operator.kube.kinds import COMPUTE_ADDRESS, ENDPOINT_LABEL, POD_MONITOR
from whisper_operator.plugin import tree

from devcluster import processes
from devcluster.cluster import Cluster
from devcluster.errors import DevclusterError
from devcluster.installation import Operator, install
from devcluster.paths import HERE
from devcluster.ports import free_ports

ROOT = HERE.parent
EXAMPLE = Path("examples/minimal.yaml")
RECORDING = Path("examples/audio/hello.wav")
NAME = "whisper"
ABSENT = (POD_MONITOR.qualified, COMPUTE_ADDRESS.qualified)
"""Kinds that the development cluster does not have."""
PATIENCE = 180.0
"""Seconds until the demo gives up."""

BOLD, DIM, PLAIN = ("\x1b[1m", "\x1b[2m", "\x1b[0m") if sys.stdout.isatty() else ("", "", "")


def main() -> int:
    """The demo; its exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        _say(
            "A development cluster: etcd, kube-apiserver, controllers, scheduler, simulated GPU nodes, a stand-in for GKE"
        )
        with Cluster.start() as cluster:
            install(cluster)
            with Operator(cluster) as operator:
                operator.wait_until_working()
                print(
                    f"{DIM}The operator runs under the permissions of deploy/; its log is {operator.log_path}{PLAIN}"
                )
                _endpoint(cluster)
                with _Server(cluster) as port:
                    _transcription(port)
                    if sys.stdin.isatty() and sys.stdout.isatty():
                        _play(cluster, port)
    except (DevclusterError, _Failed) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print()
    print("The cluster, the operator and the server are gone again.")
    return 0


class _Failed(Exception):
    """The demo did not show what it should."""


def _endpoint(cluster: Cluster) -> None:
    """Apply the example, and print its children and conditions as they come and change."""
    _say(f"kubectl apply -f {EXAMPLE}")
    text = (ROOT / EXAMPLE).read_text()
    print("\n".join(f"  {line}" for line in text.splitlines() if not line.startswith("#")))
    cluster.kubectl("apply", "-f", str(ROOT / EXAMPLE))
    start, shown = time.monotonic(), dict[str, str]()
    while not shown.get("condition Ready", "").startswith("True"):
        if time.monotonic() - start > PATIENCE:
            raise _Failed(f"{NAME} is not Ready after {PATIENCE:.0f} s")
        for what, state in tree.news(_state(cluster), shown).items():
            shown[what] = state
            print(f"  {time.monotonic() - start:5.1f} s  {tree.written(what, state)}")
        time.sleep(0.1)
    print()
    print(cluster.kubectl("get", "whisperendpoints", "-o", "wide").rstrip())


def _state(cluster: Cluster) -> dict[str, str]:
    """What there is of the endpoint now, as `kubectl whisper status` prints it."""
    kinds = ",".join(kind for kind in tree.KINDS if kind not in ABSENT)
    objects = cluster.get(kinds, "-l", f"{ENDPOINT_LABEL}={NAME}")["items"]
    return tree.lines(cluster.get("whisperendpoint", NAME), objects)


class _Server:
    """The server on this machine, since nodes and pods of the cluster are simulated; with the demo model, on the CPU.

    It stands for them: `kubectl port-forward` leads to it.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._folder = cluster.folder
        self._port = cluster.pod_port
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> int:
        _say("The server, with a tiny model that knows some fifty English words")
        (ops,) = free_ports(1)
        settings = {
            "WHISPER_MODEL": "demo",
            "WHISPER_DEVICE": "cpu",
            "WHISPER_BIND": "127.0.0.1",
            "WHISPER_PORT": str(self._port),
            "WHISPER_OPS_PORT": str(ops),
        }
        log_path = self._folder / "server.log"
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [ROOT / ".venv-server" / "bin" / "whisper-server"],
                env=processes.environment(self._folder) | settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        start = time.monotonic()
        while not _answers(f"http://127.0.0.1:{ops}/readyz"):
            if self._process.poll() is not None or time.monotonic() - start > PATIENCE:
                raise _Failed(f"the server did not start:\n{log_path.read_text()[-3000:]}")
            time.sleep(0.1)
        print(f"  ready after {time.monotonic() - start:.1f} s; metrics at http://127.0.0.1:{ops}/metrics")
        return self._port

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=60)


def _transcription(port: int) -> None:
    """Send a recording as a user would, and hold the answer against what was spoken."""
    command = ["curl", "-sS", "-F", f"file=@{RECORDING}", f"http://127.0.0.1:{port}/whisper"]
    _say(" ".join(command))
    start = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(f"  {done.stdout.strip()}{done.stderr.strip()}   ({time.monotonic() - start:.1f} s)")
    try:
        heard = json.loads(done.stdout)["results"][0]["transcript"].strip()
    except (ValueError, KeyError, IndexError):
        raise _Failed("the answer is no transcript") from None
    with (ROOT / "examples" / "audio" / "transcripts.tsv").open() as table:
        spoken = {row["file"]: row["text"] for row in csv.DictReader(table, delimiter="\t")}[RECORDING.name]
    if heard.lower() != spoken:
        raise _Failed(f"spoken was {spoken!r}, heard was {heard!r}")
    print(f"  which is what was spoken: {BOLD}{spoken}{PLAIN}")


def _play(cluster: Cluster, port: int) -> None:
    """Leave everything running until Ctrl-C."""
    _say("Now you, in another terminal; Ctrl-C here ends it all")
    print(f"""  export KUBECONFIG={cluster.kubeconfig} PATH={cluster.binaries}:{ROOT / ".venv" / "bin"}:$PATH
  kubectl whisper status {NAME} -w
  kubectl whisper transcribe examples/audio/fox.flac --endpoint {NAME}
  kubectl get wep,deploy,svc,ingress,managedcertificates -o wide
  kubectl describe wep {NAME}
  kubectl delete service {NAME}; kubectl get service {NAME} -w           # it comes back
  kubectl patch wep {NAME} --type=merge -p '{{"spec":{{"replicas":0}}}}'    # refused, with what to do instead
  kubectl apply -f examples/complete.yaml; kubectl get events -w
  kubectl explain wep.spec
  curl -F file=@examples/audio/fox.flac http://127.0.0.1:{port}/whisper
  http://127.0.0.1:{port}/ui in a browser is a page to try it, http://127.0.0.1:{port}/openapi.json describes the API
""")
    signal.pause()


def _say(text: str) -> None:
    print(f"\n{BOLD}{text}{PLAIN}", flush=True)


def _answers(url: str) -> bool:
    command = ["curl", "-sf", "-o", os.devnull, "--max-time", "5", url]
    return subprocess.run(command, check=False).returncode == 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.exit(main())
