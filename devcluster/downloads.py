"""Fetches the binaries that the pinned projects publish with their releases, so that nothing has to be compiled.

A file is kept only if it has the SHA-256 that its project publishes beside it. What can't be had so is left to the compiler:
$WHISPER_BINARIES says `auto` for that (the default), `download` to fail instead, or `compile` to ask nobody.
$WHISPER_BINARIES_URL names a mirror, which has the files under the same paths as the projects' own hosts.
"""

import hashlib
import io
import json
import os
import platform
import re
import tarfile
import threading
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from devcluster.errors import DevclusterError
from devcluster.progress import Progress

PATIENCE = 5.0
"""Seconds for all checksums together: whether the releases are within reach must not cost more."""
SILENCE = 30.0
"""Seconds without a byte after which a download has failed."""
MIB = 2**20


@dataclass(frozen=True)
class Release:
    """Where a project publishes a version's binaries: {version}, {arch} and {name} stand for what they say."""

    url: str
    checksums: str
    member: str = ""
    """The binary's path in the archive; empty where the file is the binary."""


_ETCD = "https://github.com/etcd-io/etcd/releases/download/{version}"
RELEASES: dict[str, Release] = {
    "k8s.io/kubernetes": Release(
        "https://dl.k8s.io/release/{version}/bin/linux/{arch}/{name}",
        "https://dl.k8s.io/release/{version}/bin/linux/{arch}/{name}.sha256",
    ),
    "go.etcd.io/etcd/server/v3": Release(
        f"{_ETCD}/etcd-{{version}}-linux-{{arch}}.tar.gz",
        f"{_ETCD}/SHA256SUMS",
        "etcd-{version}-linux-{arch}/{name}",
    ),
    "sigs.k8s.io/kwok": Release(
        "https://github.com/kubernetes-sigs/kwok/releases/download/{version}/{name}-linux-{arch}",
        "https://api.github.com/repos/kubernetes-sigs/kwok/releases/tags/{version}",
    ),
}
"""By Go module."""


@dataclass(frozen=True)
class Binary:
    """One file to fetch, and its published SHA-256 in hexadecimal."""

    url: str
    member: str
    sha256: str


class Unavailable(Exception):
    """A binary that can't be had as published; the message says why."""


def mode() -> str:
    """What $WHISPER_BINARIES says."""
    chosen = os.environ.get("WHISPER_BINARIES", "auto")
    if chosen not in ("auto", "download", "compile"):
        raise DevclusterError(f"WHISPER_BINARIES={chosen}: say auto, download or compile")
    return chosen


def find(wanted: Mapping[str, tuple[str, str]]) -> tuple[dict[str, Binary], dict[str, str]]:
    """Ask for the checksums of `wanted`, which has module and version by name; returns what is there, and why the rest is not."""
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine())
    found: dict[str, Binary] = {}
    missing: dict[str, str] = {}
    if platform.system() != "Linux" or arch is None:
        return found, dict.fromkeys(wanted, "there is none for this machine")

    def ask(name: str, module: str, version: str) -> None:
        release = RELEASES[module]
        place = {"version": version, "arch": arch, "name": name}
        url = _address(release.url.format(**place))
        try:
            with _open(_address(release.checksums.format(**place)), PATIENCE) as answer:
                listed = answer.read().decode()
            sha256 = published(listed, url.rsplit("/", 1)[1])
            found[name] = Binary(url, release.member.format(**place), sha256)
        except (OSError, HTTPException, ValueError, Unavailable) as problem:
            missing[name] = f"{_reason(problem)} ({release.checksums.format(**place)})"

    # Threads that nobody waits for: a name that no server resolves can take minutes to fail.
    asking = [
        threading.Thread(target=ask, args=(name, *module), daemon=True) for name, module in wanted.items()
    ]
    end = time.monotonic() + PATIENCE
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(max(0.0, end - time.monotonic()))
    # In the order of `wanted`, and apart from what a late answer still changes.
    there = {name: found[name] for name in wanted if name in found}
    late = f"no answer within {PATIENCE:.0f} s"
    return there, {name: missing.get(name, late) for name in wanted if name not in there}


def fetch(binary: Binary, target: Path, progress: Progress) -> None:
    """Write the binary to `target`; raises Unavailable. Whole or not at all."""
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        content = _read(binary.url, progress)
        actual = hashlib.sha256(content).hexdigest()
        if actual != binary.sha256:
            raise Unavailable(f"{binary.url} has SHA-256 {actual}, and not {binary.sha256} as published")
        if binary.member:
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
                file = archive.extractfile(binary.member)
                if file is None:
                    raise Unavailable(f"{binary.url} has no file {binary.member}")
                content = file.read()
        unfinished.write_bytes(content)
        unfinished.chmod(0o755)
        unfinished.rename(target)
    except (OSError, HTTPException, KeyError, tarfile.TarError) as problem:
        raise Unavailable(f"{binary.url}: {_reason(problem)}") from problem
    finally:
        unfinished.unlink(missing_ok=True)


def published(listed: str, filename: str) -> str:
    """The SHA-256 of that file in a list as sha256sum writes it, a bare checksum, or GitHub's description of a release."""
    if listed.lstrip().startswith("{"):
        assets = json.loads(listed).get("assets", [])
        listed = "\n".join(f"{(each.get('digest') or '')[7:]}  {each.get('name')}" for each in assets)
    pattern = rf"^([0-9a-f]{{64}})(?:\s*\Z|\s+\*?{re.escape(filename)}$)"
    match = re.search(pattern, listed, re.MULTILINE)
    if match is None:
        raise Unavailable(f"no checksum of {filename} is published")
    return match[1]


def _read(url: str, progress: Progress) -> bytes:
    content = bytearray()
    with _open(url, SILENCE) as answer:
        size = int(answer.headers.get("Content-Length") or 0)
        progress.total = -(-size // MIB)
        while piece := answer.read(MIB):
            content += piece
            progress.done = len(content) // MIB
    if len(content) < size:
        raise Unavailable(f"{url} ended after {len(content)} of {size} bytes")
    return bytes(content)


def _open(url: str, seconds: float) -> Any:
    """The answer, a context manager; its type depends on the kind of address."""
    request = urllib.request.Request(url, headers={"User-Agent": "whisper-operator-devcluster"})
    return urllib.request.urlopen(request, timeout=seconds)


def _address(url: str) -> str:
    """At the mirror, if there is one."""
    mirror = os.environ.get("WHISPER_BINARIES_URL", "")
    return mirror.rstrip("/") + urlsplit(url).path if mirror else url


def _reason(problem: Exception) -> str:
    inner = getattr(problem, "reason", None)
    return str(inner or problem) or type(problem).__name__
