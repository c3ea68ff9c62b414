"""Kubernetes' quantities, such as 500m, 4 or 24Gi, as numbers."""

import re
from decimal import Decimal

FORM = re.compile(r"([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([KMGTPE]i|[numkMGTPE])|[eE]([-+]?[0-9]{1,2}))?")
UNITS = {unit: Decimal(1000) ** power for power, unit in enumerate(("n", "u", "m", "", *"kMGTPE"), start=-3)}
UNITS |= {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)}


def number(quantity: object) -> Decimal:
    """A quantity as it stands in an object, text or a number. Raises ValueError."""
    match = FORM.fullmatch(str(quantity))
    if match is None:
        raise ValueError(f"{quantity!r} is no quantity: write it like 500m, 4 or 24Gi")
    digits, unit, power = match.groups()
    return Decimal(f"{digits}e{power or 0}") * UNITS[unit or ""]


def in_bytes(quantity: str) -> int:
    """One of bytes. Raises ValueError."""
    try:
        return int(number(quantity))
    except ValueError as error:
        raise ValueError(f"{quantity!r} is no amount of bytes: write it like 512Mi or 4Gi") from error
