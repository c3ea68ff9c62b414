"""`make release REPO=...` writes what a release has beside its images into dist/: the same bytes each time, for the same commit.

install.yaml, crd.yaml, operator.yaml; the chart; the operator's package, which has the command line; bills of materials of both
images; SHA256SUMS of it all. SOURCE_DATE_EPOCH, seconds since 1970, is when all of it was made: without it, the commit's time.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from whisper_operator import __version__

from devcluster import build
from release import archive, bundle, chart

REPOSITORY = r"[^\s:@]+(:[0-9]+)?(/[^\s:@]+)+"


class ReleaseError(Exception):
    """Why there can't be a release; the message says what to do."""


def make(repository: str, folder: Path) -> list[Path]:
    """Write all files of the release into an empty or absent folder; they, in order. Raises ReleaseError."""
    if not re.fullmatch(REPOSITORY, repository):
        raise ReleaseError(
            f"REPO={repository} is no repository: say REGISTRY/PATH, where `make images` pushed to, without a tag"
        )
    if stale := chart.out_of_date():
        names = ", ".join(path.name for path in stale)
        raise ReleaseError(
            f"the chart is out of date ({names}): run .venv/bin/python -m release.chart and commit it"
        )
    if folder.exists() and any(folder.iterdir()):
        raise ReleaseError(f"{folder} is not empty: remove it, so that it holds one release")
    epoch = _epoch()
    files = {
        name: text.encode() for name, text in bundle.files(repository, build.ensure() / "kubectl").items()
    }
    files[f"whisper-operator-{__version__}.tgz"] = archive.packed(repository, epoch)
    files |= _wheel(epoch) | _bills(epoch)
    files["SHA256SUMS"] = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items())
    ).encode()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return sorted(folder.iterdir())


def _epoch() -> int:
    given = os.environ.get("SOURCE_DATE_EPOCH") or _run("git", "log", "-1", "--format=%ct").decode().strip()
    if not given.isdecimal():
        raise ReleaseError(f"SOURCE_DATE_EPOCH={given} is no number of seconds since 1970")
    return int(given)


def _wheel(epoch: int) -> dict[str, bytes]:
    """The operator's package by its file's name: `whisper-operator render` and `doctor`, and kubectl's plugin."""
    with tempfile.TemporaryDirectory() as temporary:
        # A copy: setuptools leaves its own files beside the sources, and takes up those of builds before.
        sources, built = Path(temporary, "operator"), Path(temporary, "built")
        shutil.copytree(
            chart.ROOT / "operator",
            sources,
            ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"),
        )
        for path in [
            sources,
            *sources.rglob("*"),
        ]:  # whose modes are in the archive: not this machine's umask
            path.chmod(0o755 if path.is_dir() else 0o644)
        _run(
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--wheel-dir",
            built,
            sources,
            epoch=epoch,
        )
        return {path.name: path.read_bytes() for path in built.iterdir()}


def _bills(epoch: int) -> dict[str, bytes]:
    program = chart.ROOT / "scripts" / "sbom"
    return {f"{image}.cdx.json": _run(program, image, epoch=epoch) for image in ("operator", "server")}


def _run(*command: str | Path, epoch: int | None = None) -> bytes:
    environment = os.environ | {"TZ": "UTC"} | ({} if epoch is None else {"SOURCE_DATE_EPOCH": str(epoch)})
    done = subprocess.run(
        command, cwd=chart.ROOT, env=environment, umask=0o022, capture_output=True, check=False
    )
    if done.returncode != 0:
        words = " ".join(map(str, command))
        raise ReleaseError(f"`{words}` failed:\n{done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m release", description="Write a release's files into a folder."
    )
    parser.add_argument("repository", help="where its images are, REGISTRY/PATH")
    parser.add_argument("--into", type=Path, default=chart.ROOT / "dist", metavar="FOLDER")
    options = parser.parse_args()
    try:
        for path in make(options.repository, options.into):
            print(path)
    except ReleaseError as error:
        sys.exit(f"release: {error}")


if __name__ == "__main__":
    main()
