"""Somebody else's words, as an endpoint's status passes them on."""

WORDS = 400
"""Characters kept of what somebody else says: enough for a cause, too few for a stack trace."""


def shortened(text: str) -> str:
    """On one line, no longer than WORDS, and of nothing that a terminal would obey instead of showing it."""
    # Half a surrogate pair, which JSON can spell, would not come back from the API server as it was sent.
    flat = printable(text.encode("utf-8", "replace").decode())
    return flat if len(flat) <= WORDS else f"{flat[: WORDS - 3]}..."


def printable(text: str) -> str:
    """As a terminal can show it without obeying it: no control characters, and none that turn the direction of writing."""
    flat = " ".join(text.split())
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in flat)
