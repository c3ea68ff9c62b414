"""What is remembered of endpoints and children that may be gone by now, in bounds."""

from typing import TypeVar

MOST = 10_000
"""Endpoints, or children, that are remembered."""

Value = TypeVar("Value")


def remember(book: dict[str, Value], uid: str, value: Value) -> None:
    """As the latest. What nothing was written of for longest is forgotten."""
    book.pop(uid, None)
    while len(book) >= MOST:
        del book[next(iter(book))]
    book[uid] = value
