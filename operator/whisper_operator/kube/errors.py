"""What may come of a request to the API server, when it is not what was asked for.

The API server says no (Refused), says that somebody was faster (Conflict), or can't be asked right now (Unavailable). The last
two pass by themselves.
"""

import math


class Retry(Exception):
    """Work that could not be done for a known and passing reason: it is tried again soon, and nobody has to be told."""

    def __init__(self, message: str, after: float = 0.0, *, within: float = math.inf) -> None:
        """Seconds until then: `after` at the least, as the API server asks for, and else `within` at the most, however often it
        has failed."""
        super().__init__(message)
        self.after = after
        self.within = within


class Refused(Exception):
    """The API server understood the request and will not carry it out."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class NoSuchKind(Refused):
    """The cluster does not have this kind of object."""


class Forbidden(Refused):
    """The operator has no right to do that."""


class Conflict(Retry):
    """The object is not, or no longer, the one the request was about."""


class Unavailable(Retry):
    """The API server could not be asked."""


class OutOfTime(Unavailable):
    """A write would have outlived the Lease that it was begun under. One that names its object's resourceVersion may."""


class NotLeading(Retry):
    """It is not for this process to write there, now."""


class NoCluster(Exception):
    """Nothing says which API server to talk to, or with which credentials."""
