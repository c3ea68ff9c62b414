"""The audio that was named on the command line, and the files that transcripts go to: looked at before anything is begun."""

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from whisper_operator.plugin.failure import NOT_BEGUN, Failure
from whisper_operator.plugin.formats import SUFFIXES

STDIN = "-"


@dataclass(frozen=True)
class Source:
    name: str
    """As it was named, for messages."""
    filename: str
    """Its last part, which the server is told."""
    size: int
    open: Callable[[], AbstractContextManager[IO[bytes]]]
    """From its beginning, as often as it is sent."""


def find(names: Sequence[str]) -> list[Source]:
    """Raises Failure that tells of every file that can't be read."""
    if names.count(STDIN) > 1:
        raise Failure("standard input can be read once: give - one time", NOT_BEGUN)
    wrong = [problem for name in names if name != STDIN and (problem := _problem(Path(name)))]
    if wrong:
        raise Failure("\n".join(wrong), NOT_BEGUN)
    return [_source(name) for name in names]


def destinations(sources: Sequence[Source], format: str, output: str | None) -> list[Path | None]:
    """Where each transcript goes; None: to standard output. Raises Failure."""
    if output is None:
        if len(sources) > 1 and format != "text":
            raise Failure(f"several files as {format} need --output FOLDER, for one file each", NOT_BEGUN)
        return [None for _ in sources]
    path = Path(output)
    if len(sources) == 1 and not path.is_dir() and not output.endswith(("/", os.sep)):
        if not path.parent.is_dir():
            raise Failure(f"--output {output}: there is no folder {path.parent}; create it first", NOT_BEGUN)
        found = [path]
    else:
        if path.exists() and not path.is_dir():
            raise Failure(f"--output {output} is a file: several transcripts need a folder", NOT_BEGUN)
        found = [path / f"{Path(each.filename).stem}{SUFFIXES[format]}" for each in sources]
    for index, each in enumerate(found):
        if each in found[:index]:
            first = sources[found.index(each)].name
            raise Failure(
                f"the transcripts of {first} and {sources[index].name} would both be {each}: send them one after the other",
                NOT_BEGUN,
            )
        if any(Path(one.name).exists() and each.exists() and each.samefile(one.name) for one in sources):
            raise Failure(f"--output {output} would overwrite {each}, which is to be sent", NOT_BEGUN)
    return list(found)


def write(path: Path, text: str) -> None:
    """All of it or nothing. Raises Failure."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():  # such as /dev/null
            path.write_text(text, encoding="utf-8")
            return
        try:
            new.write_text(text, encoding="utf-8")
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise Failure(f"{path} can't be written: {error.strerror}") from None


def _problem(path: Path) -> str | None:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return f"{path} is a folder: name the files in it"
        if stat.S_ISREG(mode):
            with path.open("rb") as file:
                if not file.read(1):
                    return f"{path} is empty"
    except OSError as error:
        return f"{path} can't be read: {error.strerror}"
    return None


def _source(name: str) -> Source:
    if name == STDIN:
        return _kept("standard input", "stdin", sys.stdin.buffer)
    path = Path(name)
    if not path.is_file():  # a pipe, such as the shell makes of <(...)
        with path.open("rb") as pipe:
            return _kept(name, path.name, pipe)
    return Source(name, path.name, path.stat().st_size, lambda: path.open("rb"))


def _kept(name: str, filename: str, stream: IO[bytes]) -> Source:
    """It may have to be sent twice, and its length has to be known: kept in a file without a name, of which nothing is left."""
    kept = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the program
    shutil.copyfileobj(stream, kept)
    size = kept.tell()
    if not size:
        raise Failure(f"{name} is empty", NOT_BEGUN)

    def opened() -> AbstractContextManager[IO[bytes]]:
        kept.seek(0)
        return nullcontext(kept)

    return Source(name, filename, size, opened)
