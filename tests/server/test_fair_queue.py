"""Whose turn it is."""

import itertools
import random
from typing import Any, NoReturn

import pytest
from whisper_server.fair_queue import MOST_KNOWN, FairQueue


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


@pytest.mark.parametrize("others", [2, 8, 32])
def test_owners_who_come_for_the_first_time_keep_nobody_waiting_for_ever(others: int) -> None:
    """However many of them come, one after the other: who was served before gets about a share."""
    waiting: FairQueue[str] = FairQueue()
    for _ in range(4000):
        waiting.push("a", "file", "a")
    for number in range(others):
        waiting.push(f"early {number}", "file", f"early {number}")
    turns = []
    for turn in range(3000):
        owner = waiting.pop()
        waiting.charge(owner, 24)
        waiting.charge(owner, 70)
        if owner == "a":
            turns.append(turn)
        else:
            waiting.push(f"new {turn}", "file", f"new {turn}")
    assert len(turns) >= 3000 / (others + 1) / 3
    gaps = [after - before for before, after in itertools.pairwise([*turns, 3000])]
    assert max(gaps) <= 4 * (others + 1)


@pytest.mark.parametrize(
    ("cheap", "dear", "parts"), [(94, 94, 0.5), (94, 940, 10 / 11)], ids=["as dear", "ten times as dear"]
)
def test_turns_are_shared_out_by_cost_among_those_who_stay(cheap: int, dear: int, parts: float) -> None:
    waiting: FairQueue[str] = FairQueue()
    for owner in ("cheap", "dear") * 1000:
        waiting.push(owner, "file", owner)
    count = 0
    for _ in range(1000):
        owner = waiting.pop()
        waiting.charge(owner, cheap if owner == "cheap" else dear)
        count += owner == "cheap"
    assert count == pytest.approx(1000 * parts, abs=20)


def test_whoever_was_charged_late_and_much_holds_back_no_newcomer() -> None:
    """What one has on the device is charged when it is done: by then, others have come."""
    waiting: FairQueue[str] = FairQueue()
    for _ in range(1000):
        waiting.push("dear", "file", "dear")
    for _ in range(20):
        assert waiting.pop() == "dear"
    for _ in range(1000):
        waiting.push("pile", "file", "pile")
    for _ in range(20):
        waiting.charge("dear", 800)
    before_dear = 0
    while (owner := waiting.pop()) == "pile":
        waiting.charge(owner, 94)
        before_dear += 1
    assert before_dear > 50, "the dear one is far ahead, and served by its share"
    waiting.charge(owner, 800)
    for number in range(5):
        waiting.push(f"new {number}", "file", f"new {number}")
        before = []
        while (owner := waiting.pop()) in ("dear", "pile"):
            waiting.charge(owner, 94 if owner == "pile" else 800)
            before.append(owner)
        waiting.charge(owner, 94)
        assert len(before) <= 3, before


def test_a_file_whose_windows_come_one_by_one_has_its_half_beside_a_pile() -> None:
    waiting: FairQueue[str] = FairQueue()
    for _ in range(1000):
        waiting.push("pile", "file", "pile")
    waiting.push("one by one", "file", "one by one")
    count = 0
    for _ in range(1000):
        owner = waiting.pop()
        # While a window of the pile is done, the next one of the other comes.
        if owner == "pile" and "one by one" not in waiting.owners():
            waiting.push("one by one", "file", "one by one")
        waiting.charge(owner, 94)
        count += owner == "one by one"
    assert count == pytest.approx(500, abs=10)


def test_memory_and_time_do_not_grow_with_those_who_came_once() -> None:
    waiting: FairQueue[int] = FairQueue()
    waiting.push(-1, "file", -1)  # so that it is never empty
    for owner in range(20_000):
        waiting.push(owner, "file", owner)
        waiting.charge(waiting.pop(), 94)
    assert len(waiting._used) <= MOST_KNOWN + 1
