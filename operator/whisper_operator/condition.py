"""One condition of an endpoint, the form that every module about conditions speaks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Condition:
    """One of metav1's conditions, without its times."""

    type: str
    status: str
    reason: str
    message: str
    alarming: bool = False
    """Whether a person has to act."""
