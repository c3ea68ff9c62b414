"""What answers of an API server mean that are no success."""

import json
from collections.abc import Mapping

from whisper_operator.kube.errors import Conflict, Forbidden, NoSuchKind, Refused, Unavailable

LONGEST_WAIT = 300.0
PASSING = {401, 408, 429, 500, 502, 503, 504}
"""Statuses that a later try may not meet: 401 while a token is renewed, the others under load or in a restart."""


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds until the API server wants to be asked again; 0 if it does not say."""
    try:
        return min(max(0.0, float(headers.get("Retry-After", 0))), LONGEST_WAIT)
    except ValueError:  # a date, which no API server sends
        return 0.0


def failure(request: str, status: int, body: bytes, after: float) -> Exception:
    message = message_of(status, body)
    if status == 409:
        return Conflict(f"{request}: {message}")
    if status == 500 and "failed calling webhook" in message:  # Somebody has to mend it: say so.
        return Refused(status, message)
    if status in PASSING or b"NamespaceTerminating" in body:  # whose objects are all about to go
        return Unavailable(f"{request}: {status} {message}", after)
    # A path that nothing serves is answered in plain text.
    if status == 404 and b'"kind":"Status"' not in body:
        return NoSuchKind(status, message)
    if status == 403:
        return Forbidden(status, message)
    return Refused(status, message)


def counted_as(failure: Exception) -> str:
    return next(
        each.__name__.lower() for each in (Refused, Conflict, Unavailable) if isinstance(failure, each)
    )


def message_of(status: int, body: bytes) -> str:
    """The API server's own words."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip() or f"HTTP status {status}"
