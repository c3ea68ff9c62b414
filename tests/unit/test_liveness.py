"""A dead watch is told from one that has nothing to report."""

import time

import pytest
from whisper_operator.informer.access import FAILING, FORBIDDEN, Access, Obstacle, Place
from whisper_operator.informer.liveness import GRACE_SECONDS, UNWATCHED_SECONDS, Watches
from whisper_operator.kube.kinds import DEPLOYMENT, SERVICE

SERVICES: Place = (SERVICE, None)


def item(uid: str, version: int) -> dict[str, dict[str, str]]:
    return {"metadata": {"namespace": "n", "uid": uid, "resourceVersion": str(version)}}


class Clock:
    """Time that passes when told to."""

    now = 100.0

    def passes(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def begun() -> list[Place]:
    return []


@pytest.fixture
def access() -> Access:
    return Access()


@pytest.fixture
def watches(clock: Clock, begun: list[Place], access: Access) -> Watches:
    return Watches(access, begun.append)


def test_a_watch_that_has_shown_all_that_a_list_holds_lives(watches: Watches, clock: Clock) -> None:
    watches.shows(SERVICE, item("a", 5))
    for _ in range(3):
        watches.listed(SERVICES, 5)
        watches.listed((DEPLOYMENT, None), None)
        clock.passes(2 * GRACE_SECONDS)
    assert watches.dead == []


def test_a_watch_that_owes_what_a_list_held_is_dead_until_it_shows_it(watches: Watches, clock: Clock) -> None:
    watches.shows(SERVICE, item("a", 5))
    watches.listed(SERVICES, 9)
    clock.passes(GRACE_SECONDS - 1)
    assert watches.dead == []
    clock.passes(2)
    assert watches.dead == ["services"]
    watches.shows(SERVICE, item("b", 9))
    assert watches.dead == []


def test_a_dead_watch_of_a_kind_that_changes_all_the_time_is_found(watches: Watches, clock: Clock) -> None:
    """Each list holds another newest object."""
    watches.shows(SERVICE, item("a", 5))
    for version in (9, 12, 15):
        watches.listed(SERVICES, version)
        clock.passes(GRACE_SECONDS / 2)
    clock.passes(1)
    assert watches.dead == ["services"]


def test_a_watch_that_begins_anew_owes_nothing_of_before(watches: Watches, clock: Clock) -> None:
    """What a list held may have come and gone while it could not look; it goes on from a version after that."""
    watches.shows(SERVICE, item("a", 5))
    watches.listed(SERVICES, 9)
    watches.lists(SERVICES)
    watches.goes_on(SERVICES, 11)
    clock.passes(2 * GRACE_SECONDS)
    assert watches.dead == []
    watches.listed(SERVICES, 11)
    clock.passes(2 * GRACE_SECONDS)
    assert watches.dead == []


def test_a_watch_that_is_forbidden_is_not_dead(watches: Watches, clock: Clock) -> None:
    """A restart would not help; what can't be watched is listed all the more often."""
    watches.listed(SERVICES, 9)
    for obstacle in (Obstacle(FORBIDDEN, "no"), Obstacle(FAILING, "etcd")):
        watches.held_up(SERVICES, obstacle, answered=True)
        clock.passes(2 * GRACE_SECONDS)
        assert watches.dead == []


def test_a_watch_that_is_never_answered_is_dead_where_lists_are(watches: Watches, clock: Clock) -> None:
    watches.listed(SERVICES, 9)
    watches.held_up(SERVICES, Obstacle(FAILING, "TimeoutError"), answered=False)
    clock.passes(2 * GRACE_SECONDS)
    assert watches.dead == ["services"]


def test_what_cannot_be_watched_for_a_while_is_listed(watches: Watches, begun: list[Place]) -> None:
    watches.held_up(SERVICES, Obstacle(FAILING, "504 too large resource version"), answered=True)
    assert begun == [SERVICES]


def test_what_a_watch_may_have_missed_is_to_be_listed(watches: Watches, begun: list[Place]) -> None:
    watches.lists(SERVICES)
    assert begun == [SERVICES]
    watches.goes_on(SERVICES, 5)
    watches.goes_on(SERVICES, 6)  # its time was over, and it goes on
    assert begun == [SERVICES]
    for end in (
        watches.interrupted,
        lambda place: watches.held_up(place, Obstacle(FORBIDDEN), answered=True),
    ):
        end(SERVICES)
        watches.goes_on(SERVICES, 7)
        watches.goes_on(SERVICES, 8)
    assert begun == [SERVICES] * 3


def test_what_can_be_listed_and_nobody_watches_is_told(
    watches: Watches, clock: Clock, access: Access
) -> None:
    assert watches.unwatched == []
    clock.passes(UNWATCHED_SECONDS + 1)
    assert watches.unwatched == []  # who knows whether there is such a kind
    access.listing(SERVICES, None)
    assert watches.unwatched == [SERVICES]
    watches.asks(SERVICES)
    assert watches.unwatched == []
    watches.ends(SERVICES)
    assert watches.unwatched == []
    clock.passes(UNWATCHED_SECONDS + 1)
    assert watches.unwatched == [SERVICES]
    access.listing(SERVICES, Obstacle(FORBIDDEN))
    assert watches.unwatched == []
