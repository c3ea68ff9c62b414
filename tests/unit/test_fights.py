"""A fight about a field slows down, is told, and ends when a repair has held."""

import pytest
from whisper_operator.apply.fights import ITSELF, Fights

REPLICAS = {"spec.replicas": "kube-controller-manager (scale)"}


def fight(fights: Fights, times: int, at: float = 0.0, fields: dict[str, str] = REPLICAS) -> None:
    for _ in range(times):
        fights.look("e", {("c", path) for path in fields}, at)
        fights.repaired("e", "c", "Deployment whisper", fields, at)


def test_the_first_repairs_are_made_at_once() -> None:
    fights = Fights()
    fight(fights, 2)
    assert fights.wait("e", "c", set(REPLICAS), 0.1) == 0.0
    assert fights.of("e") == ()


def test_a_fight_slows_down_to_five_minutes() -> None:
    fights, now, pauses = Fights(), 0.0, []
    fight(fights, 3)
    for _ in range(9):
        fights.look("e", {("c", "spec.replicas")}, now + 1.0)
        pauses.append(fights.wait("e", "c", {"spec.replicas"}, now + 1.0) + 1.0)
        now += pauses[-1]
        fights.look("e", {("c", "spec.replicas")}, now)
        assert fights.wait("e", "c", {"spec.replicas"}, now) == 0.0
        fights.repaired("e", "c", "Deployment whisper", REPLICAS, now)
    assert pauses == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]


def test_it_is_told_with_who_and_when_it_goes_on() -> None:
    fights = Fights()
    fight(fights, 2)
    assert fights.next_look("e", 1.0) is None
    fight(fights, 2)
    assert fights.of("e") == ()
    assert fights.next_look("e", 1.0) == 59.0  # whether the repair has held
    fight(fights, 1)
    (found,) = fights.of("e")
    assert (found.what, found.field, found.editor) == ("Deployment whisper", *next(iter(REPLICAS.items())))


def test_a_repair_that_is_held_back_is_told_though_there_were_few() -> None:
    """Else Ready would say True of what is not as it should be."""
    fights = Fights()
    fight(fights, 3)
    assert fights.of("e") == ()
    fights.look("e", {("c", "spec.replicas")}, 1.0)
    assert [each.field for each in fights.of("e")] == ["spec.replicas"]
    fights.repaired("e", "c", "Deployment whisper", REPLICAS, 5.0)
    assert fights.of("e") == ()


def test_a_repair_that_is_held_back_is_looked_for() -> None:
    fights = Fights()
    fight(fights, 3)
    fights.look("e", {("c", "spec.replicas")}, 1.0)
    assert fights.next_look("e", 1.0) == 4.0
    assert fights.next_look("e", 9.0) == 1.0  # and not at once, for ever, where it can't be made


def test_a_repair_that_holds_for_a_minute_ends_it() -> None:
    fights = Fights()
    fight(fights, 5)
    fights.look("e", set(), 59.0)
    assert fights.of("e")
    fights.look("e", set(), 60.0)
    assert fights.of("e") == ()
    assert fights.wait("e", "c", {"spec.replicas"}, 61.0) == 0.0


def test_an_edit_now_and_then_is_no_fight() -> None:
    fights = Fights()
    for at in (0.0, 100.0, 200.0, 300.0, 400.0):
        fights.look("e", {("c", "spec.replicas")}, at)
        assert fights.wait("e", "c", {"spec.replicas"}, at) == 0.0
        fights.repaired("e", "c", "Deployment whisper", REPLICAS, at)
        fights.look("e", set(), at + 1)
    assert fights.of("e") == ()


def test_a_fight_about_one_field_holds_up_no_other_repair() -> None:
    fights = Fights()
    fight(fights, 6)
    fights.look("e", {("c", "spec.replicas"), ("c", "spec.paused")}, 1.0)
    assert fights.wait("e", "c", {"spec.replicas"}, 1.0) > 0.0
    assert fights.wait("e", "c", {"spec.replicas", "spec.paused"}, 1.0) == 0.0
    assert fights.wait("e", "other child", {"spec.replicas"}, 1.0) == 0.0
    assert fights.wait("other", "c", {"spec.replicas"}, 1.0) == 0.0


def an_hour_of_deletions(each: int) -> tuple[int, int]:
    """Seconds without the object, and how often it was made, if it is deleted at each so many seconds by the clock."""
    fights, is_there, absent, made = Fights(), False, 0, 0
    for now in range(3600):
        if now % each == 0:
            is_there = False
        fights.look("e", set() if is_there else {("c", ITSELF)}, float(now))
        if not is_there and fights.wait("e", "c", {ITSELF}, float(now)) == 0.0:
            fights.repaired("e", "c", "Service whisper", {ITSELF: ""}, float(now))
            is_there, made = True, made + 1
        absent += not is_there
    return absent, made


@pytest.mark.parametrize("each", [20, 30, 59, 61])
def test_what_is_deleted_now_and_then_is_made_again_at_once(each: int) -> None:
    """As by a job of each minute: nobody is to be without a Service for that."""
    absent, made = an_hour_of_deletions(each)
    assert absent == 0
    assert made == -(-3600 // each)


@pytest.mark.parametrize("each", [1, 2, 5, 10])
def test_what_is_deleted_at_once_is_made_again_ever_more_slowly(each: int) -> None:
    _, made = an_hour_of_deletions(each)
    assert made < 20


def test_what_was_settled_long_ago_is_forgotten_though_nobody_looks() -> None:
    """As of endpoints that are gone: each begins with as many repairs as it has children."""
    fights = Fights()
    for number in range(5_000):
        fights.repaired(f"{number}", "c", "Service whisper", {"": ""}, float(number))
    assert len(fights) < 250
    assert fights.wait("4999", "c", {""}, 4999.0) == 0.0
