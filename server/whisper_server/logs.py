"""Logging of the whole process, gunicorn's included: plain lines for people, or one JSON object a line."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

ENVIRON = "whisper.call"
"""Where in a request's environ its record is, which has `values()` for the access log."""
# gunicorn passes its access log's values as a mapping of one-letter atoms.
_CALL = f"{{{ENVIRON}}}e"
ACCESS_FORMAT = f'%(h)s "%(r)s" %(s)s %(B)s bytes %(M)s ms %({_CALL})s'
_ACCESS_ATOMS = {"peer": "h", "request": "r", "status": "s", "bytes": "B", "milliseconds": "M"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message; the access log's values under their own names."""

    def format(self, record: logging.LogRecord) -> str:
        """Return `record` as a line of JSON."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if record.name == "gunicorn.access" and isinstance(record.args, dict):
            entry |= {name: record.args[atom] for name, atom in _ACCESS_ATOMS.items()}
            if not isinstance(
                call := record.args[_CALL], str
            ):  # gunicorn's "-", of a request that it refused itself
                entry |= call.values()
        else:
            entry["message"] = record.getMessage()
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


def config(log_format: str) -> dict[str, Any]:
    """Return the dictConfig for `log_format` ("plain" or "json"): everything goes to standard error."""
    # gunicorn configures these two itself unless they are named.
    to_root = {"level": "INFO", "handlers": [], "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
            "json": {"()": JsonFormatter},
        },
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": log_format}},
        "root": {"level": "INFO", "handlers": ["console"]},
        "loggers": {"gunicorn.error": to_root, "gunicorn.access": to_root},
    }
