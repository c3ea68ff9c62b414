"""The train's words: its answer to an endpoint whose pods the installation has changed, and what it keeps of one that went."""

from enum import Enum
from typing import NamedTuple

from whisper_operator.rollouts.progress import Mark, Standing

STATES = ("waiting", "paused", "rolling", "failed")
"""Of upgrades."""


class Turn(Enum):
    """The answer to an endpoint whose pods the installation has changed."""

    FREE = "free"
    """It goes, and takes up no place, since it serves nothing that could be lost."""
    BOARD = "board"
    """It goes, and takes up a place until it has come through."""
    WAIT = "wait"
    PAUSED = "paused"
    """The endpoint's users or who runs the operator want it held."""

    @property
    def goes(self) -> bool:
        return self in (Turn.FREE, Turn.BOARD)


class Rolling(NamedTuple):
    """An endpoint that is on its way."""

    mark: Mark
    standing: Standing
