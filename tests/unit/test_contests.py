"""A fight about a field slows down, is told, and ends when a repair has held."""

from whisper_operator.apply.contests import Contests

REPLICAS = {"spec.replicas": "kube-controller-manager (scale)"}


def fight(contests: Contests, times: int, at: float = 0.0, fields: dict[str, str] = REPLICAS) -> None:
    for _ in range(times):
        contests.look("e", {("c", path) for path in fields}, at)
        contests.repaired("e", "c", "Deployment whisper", fields, at)


def test_the_first_repairs_are_made_at_once() -> None:
    contests = Contests()
    fight(contests, 2)
    assert contests.wait("e", "c", set(REPLICAS), 0.1) == 0.0
    assert contests.of("e") == ()


def test_a_fight_slows_down_to_five_minutes() -> None:
    contests, now, pauses = Contests(), 0.0, []
    fight(contests, 3)
    for _ in range(9):
        contests.look("e", {("c", "spec.replicas")}, now + 1.0)
        pauses.append(contests.wait("e", "c", {"spec.replicas"}, now + 1.0) + 1.0)
        now += pauses[-1]
        contests.look("e", {("c", "spec.replicas")}, now)
        assert contests.wait("e", "c", {"spec.replicas"}, now) == 0.0
        contests.repaired("e", "c", "Deployment whisper", REPLICAS, now)
    assert pauses == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]


def test_it_is_told_with_who_and_when_it_goes_on() -> None:
    contests = Contests()
    fight(contests, 2)
    assert contests.next_look("e", 1.0) is None
    fight(contests, 2)
    assert contests.of("e") == ()
    assert contests.next_look("e", 1.0) == 59.0  # whether the repair has held
    fight(contests, 1)
    (found,) = contests.of("e")
    assert (found.what, found.field, found.editor) == ("Deployment whisper", *next(iter(REPLICAS.items())))


def test_a_repair_that_is_held_back_is_looked_for() -> None:
    contests = Contests()
    fight(contests, 3)
    contests.look("e", {("c", "spec.replicas")}, 1.0)
    assert contests.next_look("e", 1.0) == 4.0
    assert contests.next_look("e", 9.0) == 1.0  # and not at once, for ever, where it can't be made


def test_a_repair_that_holds_for_a_minute_ends_it() -> None:
    contests = Contests()
    fight(contests, 5)
    contests.look("e", set(), 59.0)
    assert contests.of("e")
    contests.look("e", set(), 60.0)
    assert contests.of("e") == ()
    assert contests.wait("e", "c", {"spec.replicas"}, 61.0) == 0.0


def test_an_edit_now_and_then_is_no_fight() -> None:
    contests = Contests()
    for at in (0.0, 100.0, 200.0, 300.0, 400.0):
        contests.look("e", {("c", "spec.replicas")}, at)
        assert contests.wait("e", "c", {"spec.replicas"}, at) == 0.0
        contests.repaired("e", "c", "Deployment whisper", REPLICAS, at)
        contests.look("e", set(), at + 1)
    assert contests.of("e") == ()


def test_a_fight_about_one_field_holds_up_no_other_repair() -> None:
    contests = Contests()
    fight(contests, 6)
    contests.look("e", {("c", "spec.replicas"), ("c", "spec.paused")}, 1.0)
    assert contests.wait("e", "c", {"spec.replicas"}, 1.0) > 0.0
    assert contests.wait("e", "c", {"spec.replicas", "spec.paused"}, 1.0) == 0.0
    assert contests.wait("e", "other child", {"spec.replicas"}, 1.0) == 0.0
    assert contests.wait("other", "c", {"spec.replicas"}, 1.0) == 0.0
