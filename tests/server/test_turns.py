"""Whose turn it is, on the device and before it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from whisper_server.audio.ffmpeg import Decoders
from whisper_server.audio.listening import Listening, Turn
from whisper_server.scheduling.fair_queue import Turns
from whisper_server.scheduling.job import Stopped

from tests.server.driving import soon
from tests.server.whisper_process import wait_for


def test_turns_go_to_who_has_used_least() -> None:
    turns: Turns[str] = Turns()
    for number in range(3):
        turns.push("a", "file", f"a{number}")
    turns.push("b", "file", "b0")
    assert turns.pop() == "a0"
    turns.charge("a", 100)
    assert turns.pop() == "b0"
    turns.charge("b", 10)
    turns.push("b", "file", "b1")
    assert [turns.pop(), turns.pop()] == ["b1", "a1"]
    assert len(turns) == 1


def test_who_comes_back_has_no_credit_from_the_time_away() -> None:
    turns: Turns[str] = Turns()
    for number in range(50):
        turns.push("busy", "file", f"busy{number}")
        turns.pop()
        turns.charge("busy", 10)
    for number in range(4):
        turns.push("busy", "file", f"more{number}")
        turns.push("back", "file", f"back{number}")
    order = []
    while len(turns):
        item = turns.pop()
        order.append(item[:4])
        turns.charge("busy" if item.startswith("more") else "back", 10)
    assert order[:4].count("more") == 2, order


def test_a_clients_files_take_turns() -> None:
    turns: Turns[str] = Turns()
    for number in range(3):
        turns.push("a", "long", f"long{number}")
    turns.push("a", "short", "short0")
    assert [turns.pop() for _ in range(4)] == ["long0", "short0", "long1", "long2"]
    assert len(turns) == 0


def test_discarded_items_are_gone() -> None:
    turns: Turns[int] = Turns()
    for number in range(6):
        turns.push(number // 4, number % 2, number)
    turns.discard(0)
    assert sorted(turns.pop() for _ in range(len(turns))) == [1, 3, 5]
    assert len(turns) == 0


def test_listening_takes_turns_and_is_left_when_nobody_waits() -> None:
    listening: Listening[str] = Listening("test")
    begun, go, order = threading.Event(), threading.Event(), list[str]()

    def first() -> str:
        begun.set()
        go.wait(60)
        return "first"

    def note(name: str) -> str:
        order.append(name)
        return name

    def gone() -> None:
        raise ConnectionError

    with ThreadPoolExecutor(8) as pool:
        many = Turn(client="many", seconds=3600.0, deadline=soon())
        held = pool.submit(listening.do, first, many)
        assert begun.wait(60)
        pile = [pool.submit(listening.do, partial(note, "many"), many) for _ in range(3)]
        turn = Turn(client="left", seconds=1.0, deadline=soon(), look_up=gone)
        left = pool.submit(listening.do, partial(note, "left"), turn)
        with pytest.raises(ConnectionError):
            left.result(60)
        turn = Turn(client="late", seconds=1.0, deadline=soon(0))
        late = pool.submit(listening.do, partial(note, "late"), turn)
        with pytest.raises(Stopped):
            late.result(60)
        turn = Turn(client="other", seconds=1.0, deadline=soon())
        other = pool.submit(listening.do, partial(note, "other"), turn)
        while len(listening._turns) < 6:
            time.sleep(0.01)
        go.set()
        assert held.result(60) == "first"
        assert other.result(60) == "other"
        for each in pile:
            each.result(60)
    assert order == ["other", "many", "many", "many"]


def test_decoders_take_turns_and_are_left_when_nobody_waits() -> None:
    decoders, enough, order = Decoders(2), threading.Semaphore(0), list[str]()

    def decode(client: str) -> None:
        with decoders.turn(client, lambda: None):
            order.append(client)
            assert enough.acquire(timeout=60)

    def give_up() -> None:
        raise ConnectionError

    with ThreadPoolExecutor(8) as pool:
        held = [pool.submit(decode, "many") for _ in range(2)]
        wait_for(lambda: len(order) == 2)
        pile = [pool.submit(decode, "many") for _ in range(3)]
        wait_for(lambda: len(decoders) == 3)
        with pytest.raises(ConnectionError), decoders.turn("left", give_up):
            pytest.fail("it was not its turn")
        wait_for(lambda: len(decoders) == 3)
        other = pool.submit(decode, "other")
        wait_for(lambda: len(decoders) == 4)
        time.sleep(0.05)  # what is held costs something
        enough.release()
        wait_for(lambda: len(order) == 3)
        enough.release(5)
        for each in (*held, *pile, other):
            each.result(60)
    assert order == ["many", "many", "other", "many", "many", "many"]
    with decoders.turn("a", give_up), decoders.turn("b", give_up):
        assert len(decoders) == 0
