"""What ends the command, in words for its user."""

NOT_DONE, NOT_BEGUN = 1, 2
"""Exit statuses: something was tried, and is wrong; nothing was begun, for wrong usage or want of a cluster, endpoint or key."""


class Failure(Exception):
    """The message says what is wrong and what to do."""

    def __init__(self, words: str, status: int = NOT_DONE) -> None:
        super().__init__(words)
        self.status = status
