"""Whose turn it is."""

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
