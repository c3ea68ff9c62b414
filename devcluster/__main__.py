"""Command line: python -m devcluster build | up | status | kubeconfig | down."""

import argparse
import sys
import time
from pathlib import Path

from devcluster import build, processes
from devcluster.cluster import Cluster
from devcluster.errors import DevclusterError
from devcluster.installation import Operator, install
from devcluster.paths import clusters

NO_OPERATOR = """\
no operator runs on it. `python -m devcluster up --operator` starts this checkout's. Applying deploy/ here does not: pods are
simulated, the operator's among them, which is shown Running and does nothing, so that endpoints stay without a status."""


def main() -> int:
    """Run one command; its exit status."""
    arguments = _parser().parse_args()
    try:
        return int(COMMANDS[arguments.command](arguments) or 0)
    except DevclusterError as error:
        print(f"devcluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m devcluster", description="A real control plane with simulated nodes."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("build", help="build the binaries into the cache, if they are not there")
    for name, description in (
        ("up", "start a cluster that stays until `down`"),
        ("kubeconfig", "print the path of a cluster's kubeconfig"),
        ("down", "end a cluster and remove all it has left"),
    ):
        command = commands.add_parser(name, help=description)
        command.add_argument("--name", default="dev", help="which cluster (default: %(default)s)")
        if name == "up":
            command.add_argument(
                "--autopilot", action="store_true", help="with the admission policies of GKE Autopilot"
            )
            command.add_argument(
                "--operator",
                action="store_true",
                help="with this checkout's operator, as deploy/ installs it",
            )
        if name == "kubeconfig":
            command.add_argument("--print", action="store_true", help="print the kubeconfig itself")
    commands.add_parser("status", help="list the clusters on this machine")
    return parser


def _build(_: argparse.Namespace) -> None:
    print(f"The development cluster's programs are in {build.ensure()}.")


def _up(arguments: argparse.Namespace) -> None:
    started = time.monotonic()
    try:
        cluster = Cluster.named(arguments.name)
    except DevclusterError:
        folder = clusters() / arguments.name
        if folder.exists() and not processes.running(folder):  # left by a machine that was switched off
            processes.end(folder)
        cluster = Cluster.start(name=arguments.name, autopilot=arguments.autopilot, keep=True)
        print(f"cluster {cluster.name} is up ({time.monotonic() - started:.1f} s)", file=sys.stderr)
    else:
        cluster.autopilot(arguments.autopilot)
        print(f"cluster {cluster.name} is up already", file=sys.stderr)
    if arguments.operator:
        _run_operator(cluster)
    elif not _operator_runs(cluster):
        print(NO_OPERATOR, file=sys.stderr)
    print(f"export KUBECONFIG={cluster.kubeconfig}")
    print(f"export PATH={cluster.binaries}:$PATH")


def _run_operator(cluster: Cluster) -> None:
    """Until `down`, unless it runs already."""
    if not _operator_runs(cluster):
        install(cluster)
        Operator(cluster).start(stays=True).wait_until_working()
    print(
        f"the operator runs; its log is {cluster.folder}/operator/log. Try: kubectl apply -f examples/minimal.yaml",
        file=sys.stderr,
    )


def _operator_runs(cluster: Cluster) -> bool:
    commands = (Path(f"/proc/{pid}/cmdline") for pid in processes.running(cluster.folder))
    return any(b"\0whisper_operator\0run\0" in path.read_bytes() for path in commands if path.exists())


def _status(_: argparse.Namespace) -> None:
    names = sorted(path.name for path in clusters().iterdir()) if clusters().is_dir() else []
    for name in names:
        folder = clusters() / name
        count = len(processes.running(folder))
        if not count:
            print(
                f"{name}  not running: `python -m devcluster down --name {name}` removes what is left of it"
            )
        elif not (folder / "ready").exists():
            print(f"{name}  starting or stopping, {count} processes")
        else:
            print(f"{name}  up  {Cluster.named(name).server}  {count} processes  {folder}")
    if not names:
        print("no clusters: `python -m devcluster up` starts one")


def _kubeconfig(arguments: argparse.Namespace) -> None:
    path = Cluster.named(arguments.name).kubeconfig
    print(path.read_text().rstrip() if arguments.print else path)


def _down(arguments: argparse.Namespace) -> None:
    folder = clusters() / arguments.name
    if not folder.exists() and not processes.running(folder):
        raise DevclusterError(
            f"there is no cluster {arguments.name}; `python -m devcluster status` lists them"
        )
    processes.end(folder)
    print(f"cluster {arguments.name} is gone", file=sys.stderr)


COMMANDS = {"build": _build, "up": _up, "status": _status, "kubeconfig": _kubeconfig, "down": _down}

if __name__ == "__main__":
    sys.exit(main())
