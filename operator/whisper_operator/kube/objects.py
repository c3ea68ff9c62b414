"""What every object of the API has in common, in the form in which it comes and goes."""

from collections.abc import Mapping
from typing import Any

Key = tuple[str, str]
"""Namespace and name of an endpoint."""

Raw = Mapping[str, Any]
"""An object as the API returns it."""


def condition(status: Raw, kind: str) -> Raw:
    """The condition of that type in an object's status; empty if it has none."""
    found = (each for each in status.get("conditions") or () if each.get("type") == kind)
    return next(found, {})
