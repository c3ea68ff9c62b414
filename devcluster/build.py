"""Downloads the control plane's binaries, or builds them from their Go modules, once, into the cache.

The folder of binaries is keyed by the go.mod and go.sum files and by our own programs, so that a changed pin is a new build and
an unchanged one costs nothing. Each binary, and then the folder, is renamed into place when it is whole: a build that was killed
is taken up where it stopped. Two builds at once take turns by a file lock.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from devcluster import downloads, golang
from devcluster.errors import DevclusterError
from devcluster.paths import HERE, cache
from devcluster.progress import Progress


@dataclass(frozen=True)
class Tool:
    """One binary: its name, its Go package, and the variables set at link time ({version} is the pinned version)."""

    name: str
    package: str
    module: str
    variables: tuple[str, ...] = ()
    tags: tuple[str, ...] = field(default=(), repr=False)
    """Build tags: what to leave out of a program that brings more than is needed here."""


_KUBERNETES_VERSION = ("k8s.io/component-base/version.gitVersion={version}",)
_KWOK_VERSION = ("sigs.k8s.io/kwok/pkg/consts.Version={version}",)

Modules = Mapping[str, tuple[Tool, ...]]
"""The binaries to build, by the folder of the Go module that pins them."""

MODULES: Modules = {
    "kwok": (
        Tool("etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3"),
        Tool("kwok", "sigs.k8s.io/kwok/cmd/kwok", "sigs.k8s.io/kwok", _KWOK_VERSION),
        Tool("kwokctl", "sigs.k8s.io/kwok/cmd/kwokctl", "sigs.k8s.io/kwok", _KWOK_VERSION),
    ),
    "kubernetes": tuple(
        Tool(name, f"k8s.io/kubernetes/cmd/{name}", "k8s.io/kubernetes", _KUBERNETES_VERSION)
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
    ),
}


def ensure(root: Path = HERE, modules: Modules = MODULES) -> Path:
    """The folder with all binaries, built first if the cache lacks them (minutes, shown on standard error)."""
    ready = cache() / f"bin-{key(root, modules)}"
    if ready.is_dir():
        return ready
    with _lock(cache() / "build.lock"):
        if not ready.is_dir():
            _build(root, modules, ready)
            if root == HERE:  # gigabytes that nothing needs again
                shutil.rmtree(golang.caches(), ignore_errors=True)
    return ready


def key(root: Path = HERE, modules: Modules = MODULES) -> str:
    """Twelve hexadecimal digits that change whenever a pinned version does, or a program of our own."""
    digest = hashlib.sha256(repr(modules).encode())
    for folder, tools in modules.items():
        digest.update("".join(tag for tool in tools for tag in tool.tags).encode())
        pins = (root / folder / name for name in ("go.mod", "go.sum"))
        for path in (*pins, *sorted((root / folder).glob("*.go"))):
            digest.update(path.read_bytes() if path.exists() else b"")
    return digest.hexdigest()[:12]


def pinned(module: str, go_mod: str) -> str:
    """The version that the text of a go.mod pins for `module`, such as 'v1.37.2'."""
    match = re.search(rf"^(?:require )?\s*{re.escape(module)} (v\S+)", go_mod, re.MULTILINE)
    if match is None:
        raise DevclusterError(
            f"go.mod names no version of {module}: run `go get -tool {module}/...` beside it"
        )
    return match[1]


def _build(root: Path, modules: Modules, ready: Path) -> None:
    partial = ready.with_suffix(".partial")
    partial.mkdir(parents=True, exist_ok=True)
    for unfinished in partial.glob(".*"):  # of a build that was killed
        unfinished.unlink()
    _download(root, modules, partial)
    todo = [(folder, tool) for folder, tools in modules.items() for tool in tools]
    if all((partial / tool.name).exists() for _, tool in todo):
        partial.rename(ready)
        return
    go = golang.find(max(_go_line(root / folder) for folder in modules))
    times_file = cache() / "build-times.json"
    times: dict[str, float] = json.loads(times_file.read_text()) if times_file.exists() else {}
    for number, (folder, tool) in enumerate(todo, start=1):
        binary = partial / tool.name
        if binary.exists():
            continue
        with Progress(f"[{number}/{len(todo)}] {tool.name}", times.get(tool.name)) as progress:
            _build_one(go, root / folder, tool, binary, progress)
        times[tool.name] = round(progress.seconds, 1)
        _write_whole(times_file, json.dumps(times, indent=2))
    partial.rename(ready)


def _download(root: Path, modules: Modules, partial: Path) -> None:
    """Fetch what the projects publish; what can't be had stays missing, or fails where nothing may be compiled."""
    mode = downloads.mode()
    wanted = {
        tool.name: (tool.module, pinned(tool.module, (root / folder / "go.mod").read_text()))
        for folder, tools in modules.items()
        for tool in tools
        if tool.module in downloads.RELEASES and not (partial / tool.name).exists()
    }
    if mode == "compile" or not wanted:
        return
    found, missing = downloads.find(wanted)
    for number, (name, binary) in enumerate(found.items(), start=1):
        try:
            with Progress(f"[{number}/{len(found)}] {name}", None, unit="MiB", done="downloaded") as progress:
                downloads.fetch(binary, partial / name, progress)
        except downloads.Unavailable as problem:
            missing[name] = str(problem)
    if not missing:
        return
    name, reason = next(iter(missing.items()))
    others = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
    if mode == "download":
        raise DevclusterError(
            f"WHISPER_BINARIES=download, but {name} can't be downloaded{others}: {reason}. Mend the network, name a mirror in "
            "WHISPER_BINARIES_URL, or set WHISPER_BINARIES=compile"
        )
    print(
        f"devcluster: compiling {name}{others}, which can't be downloaded: {reason}",
        file=sys.stderr,
        flush=True,
    )


def _build_one(go: Path, folder: Path, tool: Tool, binary: Path, progress: Progress) -> None:
    version = pinned(tool.module, (folder / "go.mod").read_text()) if tool.variables else ""
    flags = " ".join(["-s", "-w", *(f"-X {variable.format(version=version)}" for variable in tool.variables)])
    unfinished = binary.with_name(f".{binary.name}.{os.getpid()}")
    said: list[str] = []
    tags = f"-tags={','.join(tool.tags)}"
    with _run(go, folder, "list", "-deps", tags, tool.package) as listing:
        assert listing.stdout is not None  # noqa: S101  (Popen was given a pipe)
        progress.total = sum(not line.startswith("go: ") for line in listing.stdout)
    command = ("build", "-v", "-buildvcs=false", tags, "-ldflags", flags, "-o", str(unfinished), tool.package)
    with _run(go, folder, *command) as build:
        assert build.stdout is not None  # noqa: S101
        for line in build.stdout:
            # -v names each package as its compilation starts; anything with a blank in it is a message.
            if " " in line.strip():
                said.append(line)
            else:
                progress.step()
    if build.returncode != 0:
        unfinished.unlink(missing_ok=True)
        raise DevclusterError(f"`go build {tool.package}` failed in {folder}:\n{''.join(said[-30:])}")
    unfinished.rename(binary)


def _run(go: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [go, *arguments],
        cwd=folder,
        env=golang.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _go_line(folder: Path) -> golang.Version:
    match = re.search(r"^go (\S+)$", (folder / "go.mod").read_text(), re.MULTILINE)
    if match is None:
        raise DevclusterError(f"{folder / 'go.mod'} has no `go` line")
    return golang.parse(match[1])


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("devcluster: waiting for another build to finish", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_whole(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text)
    unfinished.rename(path)
