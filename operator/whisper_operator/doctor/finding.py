"""What a check has found."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ERROR, WARNING, UNCHECKED = "error", "warning", "not-checked"
SEVERITIES = (ERROR, WARNING, UNCHECKED)
"""error: somebody has to act; warning: it may pass by itself, or matters at times only; not-checked: it could not be seen."""


@dataclass(frozen=True)
class Subject:
    """What a finding is about, such as an object; without a namespace, something of the whole cluster."""

    kind: str
    name: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        path = "/".join(part for part in (self.namespace, self.name) if part)
        return f"{self.kind} {path}".strip()

    @staticmethod
    def of(kind: str, raw: Mapping[str, Any]) -> "Subject":
        metadata = raw["metadata"]
        return Subject(kind, metadata["name"], metadata.get("namespace", ""))


@dataclass(frozen=True)
class Finding:
    severity: str
    """One of SEVERITIES."""
    code: str
    """A stable word for programs, of those in docs/doctor.md, or the reason of an endpoint's condition."""
    subject: Subject
    problem: str
    """What is wrong, in a sentence or two."""
    advice: str = ""
    """How to mend it; empty where `problem` says so."""
    command: str = ""
    """The command that does, where there is one; words in capitals are to be filled in."""


@dataclass(frozen=True)
class Well:
    """That something was looked at, and nothing is wrong with it."""

    words: str


@dataclass(frozen=True)
class Gap:
    """Something that could not be read."""

    needs: str
    """The right that it takes, such as "list nodes"."""
    words: str
    """Why not, if it is not for want of the right; else empty."""

    def finding(self, what: str, subject: Subject | None = None) -> Finding:
        """That `what` was not checked."""
        about = subject or Subject(what)
        if self.words:
            return Finding(UNCHECKED, "NotReadable", about, f"{what}: not checked: {self.words}")
        return Finding(
            UNCHECKED, "NotPermitted", about, f"{what}: not checked: needs the right to {self.needs}"
        )


Result = Finding | Well


def command(*words: str) -> str:
    """Words of a shell, whatever a cluster has put into them."""
    return shlex.join(words)
