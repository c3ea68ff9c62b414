"""The policy file as it is now: read again when it changes, so that a change needs no restart.

A ConfigMap's file changes under a running pod, a minute or so after the ConfigMap does.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import Gauge

from whisper_operator.config import Settings
from whisper_operator.kube.metrics import REGISTRY
from whisper_operator.kube.objects import Raw
from whisper_operator.policy.reading import PolicyError, load
from whisper_operator.policy.rules import Policy

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""From one look at the file to the next: a read of some kilobytes."""

VALID = Gauge(
    "whisper_operator_policy_valid",
    "1 while the policy that is in force is the one in the file, 0 while the file can't be used and the last good one holds, "
    "or, where there is none, no endpoint is changed.",
    registry=REGISTRY,
)


@dataclass(frozen=True)
class Reading:
    """What a look at the file has shown."""

    content: bytes | str
    """Or why it can't be read."""
    found: Policy | str
    """Or what is wrong with it."""


class LivePolicy:
    """The last good policy of a file; without a file, all is allowed."""

    def __init__(self, path: Path | None, settings: Settings) -> None:
        self._path = path
        self._settings = settings
        self._content: bytes | str | None = None
        """When it was last looked at."""
        self.wrong = ""
        """What is wrong with the file, if it can't be used."""
        self.current = Policy() if path is None else Policy.closed()
        VALID.set(1)
        reading = self.read()
        if reading is not None:
            self._put(reading)

    def tell(self) -> None:
        """Log what is wrong with the file, if it can't be used."""
        if self.wrong:
            instead = "no endpoint is changed" if self.current.is_closed else "the last good one holds on"
            logger.error("The policy %s can't be used, %s: %s", self._path, instead, self.wrong)

    def read(self) -> Reading | None:
        """Look at the file, None if it is as it was. Takes seconds where it is large, so not on the event loop."""
        if self._path is None:
            return None
        content = _content(self._path)
        if content == self._content:
            return None
        try:
            return Reading(content, _parsed(content, self._settings))
        except Exception as error:  # whatever it is, an operator that ends for it is of less use
            return Reading(content, str(error) or type(error).__name__)

    def take(self, reading: Reading | None) -> bool:
        """Put in force what was read; whether another policy is in force than before."""
        if reading is None:
            return False
        before, was_wrong = self.current, self.wrong
        self._put(reading)
        if self.wrong:
            self.tell()
            return False
        changed = not self.current.is_same(before)
        news = "has changed" if changed else "is good again" if was_wrong else "says what it did"
        logger.info("The policy %s %s", self._path, news)
        return changed

    def _put(self, reading: Reading) -> None:
        self._content = reading.content
        self.wrong = reading.found if isinstance(reading.found, str) else ""
        VALID.set(not self.wrong)
        if isinstance(reading.found, Policy):
            self.current = reading.found


def _content(path: Path) -> bytes | str:
    try:
        return path.read_bytes()
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"


def _parsed(content: bytes | str, settings: Settings) -> Policy:
    if isinstance(content, str):
        raise PolicyError(content)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise PolicyError(f"it is no UTF-8: {error}") from error
    return load(text, settings, _complaints)


def _complaints(resource: Raw) -> list[str]:
    from whisper_operator.offline import crd_schema  # large, and needed for defaults only

    return crd_schema.complaints(resource)
