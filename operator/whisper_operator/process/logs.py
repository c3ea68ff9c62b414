"""Logs as one JSON object a line, with the endpoint's namespace and name where a line is about one."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pythonjsonlogger.json import JsonFormatter

_subject: ContextVar[tuple[str, str] | None] = ContextVar("_subject", default=None)


@contextmanager
def about(key: tuple[str, str]) -> Iterator[None]:
    """Whatever is logged inside, by any module, carries this endpoint's namespace and name."""
    token = _subject.set(key)
    try:
        yield
    finally:
        _subject.reset(token)


class _Formatter(JsonFormatter):
    def process_log_record(self, log_data: dict[str, object]) -> dict[str, object]:
        key = log_data.pop("endpoint", None) or _subject.get()
        if isinstance(key, tuple):
            log_data["namespace"], log_data["name"] = key
        return log_data


def configure(level: str = "info") -> None:
    """Log to stderr what is of that level or above. kopf's chatter about every event stays out."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Formatter(
            "%(message)s %(levelname)s %(name)s",
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp="time",
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("kopf").setLevel(max(logging.WARNING, logging.root.level))
    # Which kinds a cluster lacks is said by ourselves, and only what is wanted of them is a matter of concern.
    logging.getLogger("kopf._core.reactor.observation").addFilter(
        lambda record: not record.getMessage().startswith("Unresolved resources cannot be served")
    )
