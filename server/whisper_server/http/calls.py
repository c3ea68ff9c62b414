"""One call of the API, from its headers to its line in the access log."""

import ipaddress
import re
import time
import uuid
from dataclasses import dataclass, field

from flask import Request, g

ENVIRON = "whisper.call"
"""Where gunicorn's access log finds it."""


@dataclass(kw_only=True)
class Call:
    """What is known of a call so far; times in seconds."""

    id: str
    client: str
    """Who calls: the name of the API key, or else an address. Clients take turns."""
    key: str | None = None
    """The name of the API key, if one is needed."""
    begin: float = field(default_factory=time.monotonic)
    audio_seconds: float = 0.0
    queue_seconds: float = 0.0
    decode_seconds: float = 0.0

    def values(self) -> dict[str, object]:
        """For the access log."""
        return {
            "request_id": self.id,
            "client": self.client,
            "audio_seconds": round(self.audio_seconds, 3),
            "queue_seconds": round(self.queue_seconds, 3),
            "decode_seconds": round(self.decode_seconds, 3),
            "seconds": round(time.monotonic() - self.begin, 3),
        }

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.values().items())


def current() -> Call:
    """The call that this thread serves."""
    call: Call = g.call
    return call


def begin(request: Request) -> Call:
    """Make the call of a request that has just come in, and leave it where `current` and the access log find it."""
    g.call = call = Call(id=_id(request.headers.get("X-Request-Id", "")), client=address(request))
    request.environ[ENVIRON] = call
    return call


def address(request: Request) -> str:
    """Where a request comes from.

    Google's load balancer appends the client's address and its own to X-Forwarded-For; what stands before those two is the
    client's own invention.
    """
    forwarded = [part.strip() for part in request.headers.get("X-Forwarded-For", "").split(",")]
    if len(forwarded) >= 2:
        try:
            return str(ipaddress.ip_address(forwarded[-2]))
        except ValueError:
            pass
    return request.remote_addr or "unknown"


def _id(wanted: str) -> str:
    return wanted if re.fullmatch("[A-Za-z0-9._:-]{1,128}", wanted) else uuid.uuid4().hex
