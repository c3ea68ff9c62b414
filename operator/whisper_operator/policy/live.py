"""The policy file as it is now: read again when it changes, so that a change needs no restart.

A ConfigMap's file changes under a running pod, a minute or so after the ConfigMap does.
"""

import logging
from pathlib import Path

from prometheus_client import Gauge

from whisper_operator.config import ConfigError, Settings
from whisper_operator.kube.metrics import REGISTRY
from whisper_operator.kube.objects import Raw
from whisper_operator.policy.reading import PolicyError, load
from whisper_operator.policy.rules import Policy

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""From one look at the file to the next: a read of some kilobytes."""

VALID = Gauge(
    "whisper_operator_policy_valid",
    "1 while the policy that is in force is the one in the file, 0 while the file can't be used and the last good one holds.",
    registry=REGISTRY,
)


class LivePolicy:
    """The last good policy of a file."""

    def __init__(self, path: Path | None, settings: Settings) -> None:
        """Without a file, all is allowed. Raises ConfigError: at first there is no good one to keep."""
        self._path = path
        self._settings = settings
        self._seen: bytes | str = b""
        """The file's content when it was last looked at, or why it can't be read."""
        self.current = Policy()
        if path is not None:
            self._seen = _read(path)
            try:
                self.current = _parsed(self._seen, settings)
            except PolicyError as error:
                raise ConfigError(f"cannot use the policy {path}: {error}") from error
        VALID.set(1)

    def look(self) -> bool:
        """Whether another policy is in force than before."""
        if self._path is None:
            return False
        found = _read(self._path)
        if found == self._seen:
            return False
        self._seen = found
        try:
            policy = _parsed(found, self._settings)
        except Exception as error:  # whatever it is, an operator that ends for it is of less use
            VALID.set(0)
            logger.error("The policy %s can't be used, the last good one holds on: %s", self._path, error)
            return False
        VALID.set(1)
        changed = not policy.is_same(self.current)
        logger.info("The policy %s %s", self._path, "has changed" if changed else "is good again")
        self.current = policy
        return changed


def _read(path: Path) -> bytes | str:
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
    if not text.strip():
        raise PolicyError(
            "it is empty: write {} to allow everything"
        )  # it may be in the middle of being written
    return load(text, settings, _complaints)


def _complaints(resource: Raw) -> list[str]:
    from whisper_operator.offline import crd_schema  # large, and needed for defaults only

    return crd_schema.complaints(resource)
