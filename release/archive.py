"""The chart as an archive whose bytes depend on its files and the time given alone: `helm package` puts the clock's into it."""

import gzip
import io
import re
import tarfile
from pathlib import Path

from release.chart import CHART


def packed(repository: str, epoch: int, *, folder: Path = CHART, version: str | None = None) -> bytes:
    """The folder's files as Helm's .tgz, with where the images are; `version`: another one than the folder's, for tests.

    `epoch`, in seconds since 1970, is when all of it was made.
    """
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    files["values.yaml"] = _with_repository(files["values.yaml"].decode(), repository).encode()
    if version is not None:
        files["Chart.yaml"] = re.sub(
            rb"(?m)^(version|appVersion): .*", rb"\1: " + version.encode(), files["Chart.yaml"]
        )
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files, key=lambda name: (name != "Chart.yaml", name)):  # as Helm has it
            entry = tarfile.TarInfo(f"{folder.name}/{name}")
            entry.size, entry.mtime, entry.mode = len(files[name]), epoch, 0o644
            archive.addfile(entry, io.BytesIO(files[name]))
    return gzip.compress(tar.getvalue(), mtime=epoch)


def _with_repository(values: str, repository: str) -> str:
    empty = 'image:\n  repository: ""\n'
    if values.count(empty) != 1:
        raise ValueError(f"values.yaml has not once {empty!r}, which a release fills in")
    return values.replace(empty, f"image:\n  repository: {repository}\n")
