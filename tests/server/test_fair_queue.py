"""Whose turn it is."""

import random
from typing import Any, NoReturn

import pytest
from whisper_server.fair_queue import FairQueue


def test_turns_go_to_who_has_used_least() -> None:
    waiting: FairQueue[str] = FairQueue()
    for number in range(3):
        waiting.push("a", "file", f"a{number}")
    waiting.push("b", "file", "b0")
    assert waiting.pop() == "a0"
    waiting.charge("a", 100)
    assert waiting.pop() == "b0"
    waiting.charge("b", 10)
    waiting.push("b", "file", "b1")
    assert [waiting.pop(), waiting.pop()] == ["b1", "a1"]
    assert len(waiting) == 1


def test_who_comes_back_has_no_credit_from_the_time_away() -> None:
    waiting: FairQueue[str] = FairQueue()
    for number in range(50):
        waiting.push("busy", "file", f"busy{number}")
        waiting.pop()
        waiting.charge("busy", 10)
    for number in range(4):
        waiting.push("busy", "file", f"more{number}")
        waiting.push("back", "file", f"back{number}")
    order = []
    while len(waiting):
        item = waiting.pop()
        order.append(item[:4])
        waiting.charge("busy" if item.startswith("more") else "back", 10)
    assert order[:4].count("more") == 2, order


def test_a_clients_files_take_turns() -> None:
    waiting: FairQueue[str] = FairQueue()
    for number in range(3):
        waiting.push("a", "long", f"long{number}")
    waiting.push("a", "short", "short0")
    assert [waiting.pop() for _ in range(4)] == ["long0", "short0", "long1", "long2"]
    assert len(waiting) == 0


def test_discarded_items_are_gone() -> None:
    waiting: FairQueue[int] = FairQueue()
    for number in range(6):
        waiting.push(number // 4, number % 2, number)
    waiting.discard(0)
    assert sorted(waiting.pop() for _ in range(len(waiting))) == [1, 3, 5]
    assert len(waiting) == 0


def test_only_who_may_is_served() -> None:
    waiting: FairQueue[str] = FairQueue()
    for owner in ("a", "b"):
        waiting.push(owner, "file", owner)
    assert waiting.pop(lambda owner: owner == "b") == "b"
    assert list(waiting.owners()) == ["a"]
    with pytest.raises(ValueError, match="empty"):
        waiting.pop(lambda owner: owner == "b")
    assert waiting.pop() == "a"


def test_its_length_is_known_without_a_look_into_it() -> None:
    """Another thread asks for it while this one changes what there is."""

    class Changing(dict[Any, Any]):
        def values(self) -> NoReturn:
            raise RuntimeError("dictionary changed size during iteration")

    chance = random.Random(7)
    waiting: FairQueue[tuple[int, int, int]] = FairQueue()
    waiting._piles = Changing()
    inside: set[tuple[int, int, int]] = set()
    for number in range(2000):
        match chance.choice(["push", "push", "pop", "discard"]):
            case "pop" if inside:
                inside.remove(waiting.pop())
            case "discard" if number % 8 == 0:
                gone = chance.randrange(4)
                waiting.discard(gone)
                inside = {item for item in inside if item[1] != gone}
            case _:
                owner, pile = chance.randrange(3), chance.randrange(4)
                waiting.push(owner, pile, (owner, pile, number))
                inside.add((owner, pile, number))
        assert len(waiting) == len(inside)
