"""Carrying out a plan, where the cluster is not as it was thought to be: what an object is, who deletes it, what fails."""

import copy
from typing import Any

import pytest
from whisper_operator.apply.memory import MOST, remember
from whisper_operator.apply.outcome import Fight, Outcome
from whisper_operator.kube.errors import OutOfTime, Refused, Unavailable
from whisper_operator.kube.kinds import (
    BACKEND_CONFIG,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    HASH_ANNOTATION,
    INGRESS,
    SERVICE,
)

from tests.unit.bench import Bench, managed
from tests.unit.making import SCALED


def scaled_to(bench: Bench, replicas: int) -> None:
    """An autoscaler has set it."""
    live = bench.server.objects[DEPLOYMENT, "whisper"]
    scaler = managed("kube-controller-manager", DEPLOYMENT, {"f:spec": {"f:replicas": {}}})
    live["metadata"]["managedFields"].append({**scaler, "subresource": "scale"})
    bench.server.put(DEPLOYMENT, {**live, "spec": {**live["spec"], "replicas": replicas}})


def label_away(bench: Bench) -> None:
    """Somebody's label takes the Deployment out of our selectors, which a watch shows as its deletion."""
    live = copy.deepcopy(bench.server.objects[DEPLOYMENT, "whisper"])
    live["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "Helm"
    live["metadata"]["managedFields"][0]["fieldsV1"] = {"f:spec": {}}
    bench.cache.delete(DEPLOYMENT, bench.server.put(DEPLOYMENT, live))


def test_what_the_cache_lacks_and_is_there_is_not_put_right_from_a_plan_made_blind() -> None:
    """A Deployment that left our selectors by somebody's label, or that no list has shown yet: its autoscaler's number stays."""
    bench = Bench(**SCALED)
    bench.settle()
    scaled_to(bench, 9)
    label_away(bench)
    (delay,) = bench.once().delays
    assert delay == ("Deployment whisper", "Deployment whisper was there, and had not been seen")
    assert bench.once().delays == ()
    assert [body["spec"].get("replicas") for body in bench.sent(DEPLOYMENT)] == [None]
    assert bench.server.objects[DEPLOYMENT, "whisper"]["spec"]["replicas"] == 9
    labels = bench.server.objects[DEPLOYMENT, "whisper"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/managed-by"] == "whisper-operator"


def orphaned(bench: Bench) -> dict[str, Any]:
    """As a backup has restored a Deployment: of no owner, and with a default beside what is declared."""
    live = bench.server.objects[DEPLOYMENT, "whisper"]
    del live["metadata"]["ownerReferences"]
    probe: dict[str, Any] = {"f:livenessProbe": {"f:httpGet": {"f:path": {}, "f:port": {}, "f:scheme": {}}}}
    pod = {"f:template": {"f:spec": {"f:containers": {'k:{"name":"server"}': probe}}}}
    live["metadata"]["managedFields"] = [managed("velero", DEPLOYMENT, {"f:spec": pod})]
    return live


def half_adopted() -> Bench:
    """What was restored has been handed over to the operator, whose apply failed then."""
    bench = Bench()
    bench.settle()
    bench.server.put(DEPLOYMENT, orphaned(bench))
    bench.watch()
    bench.server.failing["apply", DEPLOYMENT] = [Unavailable("503")]
    assert bench.once().delays == (("Deployment whisper", "503"),)
    return bench


def test_an_adoption_that_fails_half_way_is_taken_up_again() -> None:
    bench = half_adopted()
    live = bench.server.objects[DEPLOYMENT, "whisper"]["metadata"]
    assert HASH_ANNOTATION not in live["annotations"]
    bench.watch()
    outcome = bench.once()
    assert (outcome.names_taken, outcome.delays) == ((), ())
    live = bench.server.objects[DEPLOYMENT, "whisper"]["metadata"]
    assert live["ownerReferences"][0]["uid"] == "u-1"


def test_an_adoption_that_failed_is_taken_up_again_by_an_operator_that_has_not_listed_it() -> None:
    another = Bench()
    another.server.objects = half_adopted().server.objects
    outcome = another.once()
    assert outcome.names_taken == ()
    assert ("Deployment whisper", "Deployment whisper was there, and had not been seen") in outcome.delays
    another.once()
    live = another.server.objects[DEPLOYMENT, "whisper"]["metadata"]
    assert live["ownerReferences"][0]["uid"] == "u-1"


class Clock:
    """Stands still unless it is told."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    held = Clock()
    for module in ("applier", "writes"):
        monkeypatch.setattr(f"whisper_operator.apply.{module}.time", held)
    return held


def test_a_child_that_is_deleted_each_time_is_made_again_ever_more_slowly_and_that_is_told(
    clock: Clock,
) -> None:
    bench = Bench(replicas=2)
    bench.settle()
    made = 0
    for _ in range(4):
        bench.lose(DISRUPTION_BUDGET)
        outcome = bench.once()
        made += (DISRUPTION_BUDGET, "whisper") in bench.server.objects
        if (DISRUPTION_BUDGET, "whisper") not in bench.server.objects:
            break
    assert made == 2  # and once at first
    # It is not there, which is told at once.
    fought = (Fight("PodDisruptionBudget whisper", "", ""),)
    assert (outcome.repair_in, outcome.fights) == (5.0, fought)
    for pause in (5.0, 10.0):
        clock.now += pause
        assert bench.once().fights == (() if pause == 5.0 else fought)
        bench.lose(DISRUPTION_BUDGET)
        outcome = bench.once()
        assert (DISRUPTION_BUDGET, "whisper") not in bench.server.objects
    assert (outcome.repair_in, outcome.fights) == (20.0, fought)
    # Nothing else waits for that, nor does a spec that is another.
    bench.lose(SERVICE)
    bench.once()
    assert (SERVICE, "whisper") in bench.server.objects
    bench.resource["metadata"]["generation"] += 1
    bench.once()
    assert (DISRUPTION_BUDGET, "whisper") in bench.server.objects


def test_nothing_names_what_is_held_back(clock: Clock) -> None:
    bench = Bench(host="a.example.com")
    bench.settle()
    for _ in range(2):
        bench.lose(SERVICE)
        bench.once()
    bench.lose(SERVICE)
    bench.lose(INGRESS)
    bench.once()
    assert not {(SERVICE, "whisper"), (INGRESS, "whisper")} & bench.server.objects.keys()
    clock.now += 5.0
    bench.once()
    assert {(SERVICE, "whisper"), (INGRESS, "whisper")} <= bench.server.objects.keys()


def test_what_is_suspended_and_started_each_time_is_stopped_ever_more_slowly(clock: Clock) -> None:
    """Of a spec that can't be carried out: otherwise the number is declared, and a repair like any other."""
    bench = Bench()
    bench.settle()
    bench.resource["spec"] = {"suspend": True, "accelerator": 7}
    live = bench.server.objects[DEPLOYMENT, "whisper"]
    for _ in range(5):
        bench.server.put(DEPLOYMENT, {**live, "spec": {**live["spec"], "replicas": 1}})
        bench.watch()
        outcome = bench.freeze()
    assert len(bench.server.stopped) == 3
    assert outcome.repair_in == 5.0
    clock.now += 5.0
    bench.freeze()
    assert len(bench.server.stopped) == 4


@pytest.mark.parametrize("refused", [False, True])
def test_a_suspension_waits_for_no_fight_about_the_number_before_it(clock: Clock, refused: bool) -> None:
    """Whether it can't be carried out otherwise, or is refused: somebody's autoscaler is perhaps what it is to end."""
    bench = Bench(replicas=2)
    bench.settle()
    for _ in range(4):
        contest(bench)
    bench.resource["metadata"]["generation"] += 1
    bench.resource["spec"] = {"suspend": True} if refused else {"suspend": True, "accelerator": 7}
    uid = bench.server.objects[DEPLOYMENT, "whisper"]["metadata"]["uid"]

    def once() -> Outcome:
        bench.server.failing["apply", DEPLOYMENT] = [Refused(403, "denied by a policy")]
        return bench.once() if refused else bench.freeze()

    once()
    assert bench.server.stopped == [uid]
    # Who starts it each time has it stopped ever more slowly, as of old.
    for _ in range(4):
        scaled_to(bench, 2)
        bench.watch()
        outcome = once()
    assert bench.server.stopped == [uid] * 3
    assert outcome.repair_in == (30.0 if refused else 5.0)


def contest(bench: Bench) -> Outcome:
    """Somebody takes fields of the Deployment, and the operator looks."""
    live = copy.deepcopy(bench.server.objects[DEPLOYMENT, "whisper"])
    live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"] = {"f:template": {}}
    bench.server.put(DEPLOYMENT, live)
    bench.watch()
    return bench.once()


def test_a_field_that_is_set_each_time_is_put_right_ever_more_slowly(clock: Clock) -> None:
    bench = Bench(replicas=2)
    bench.settle()
    repair_in = [contest(bench).repair_in for _ in range(5)]
    assert len(bench.sent(DEPLOYMENT)) == 3
    assert repair_in[3:] == [5.0, 5.0]
    clock.now += 5.0
    bench.once()
    assert len(bench.sent(DEPLOYMENT)) == 4
    # A change of the spec waits for nothing.
    bench.resource["spec"]["replicas"] = 3
    bench.resource["metadata"]["generation"] += 1
    contest(bench)
    assert bench.sent(DEPLOYMENT)[4:][0]["spec"]["replicas"] == 3


def test_a_repair_that_is_refused_is_tried_again_every_half_minute(clock: Clock) -> None:
    """And not each second, as what has been due for long."""
    bench = Bench(replicas=2)
    bench.settle()
    for _ in range(3):
        contest(bench)
    clock.now += 6.0
    bench.server.failing["apply", DEPLOYMENT] = [Refused(403, "denied by a policy")]
    outcome = contest(bench)
    assert outcome.refusals == (("Deployment whisper", "denied by a policy"),)
    assert outcome.repair_in == 30.0


def test_a_fault_of_the_operators_own_in_one_write_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(host="a.example.com")
    bench.server.answers[BACKEND_CONFIG] = {}
    outcome = bench.once()
    (delay,) = outcome.delays
    assert delay == (
        "BackendConfig whisper",
        "a fault of the operator's own (KeyError: 'metadata'), of which its log has the details",
    )
    assert {(DEPLOYMENT, "whisper"), (SERVICE, "whisper")} <= bench.server.objects.keys()
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.message == "Writing BackendConfig whisper failed, by a fault of the operator's own"
    assert record.exc_info
    assert isinstance(outcome.fault, KeyError)
    del bench.server.answers[BACKEND_CONFIG]
    bench.once()
    bench.once()
    assert (INGRESS, "whisper") in bench.server.objects


def test_what_was_written_to_last_is_remembered() -> None:
    """Of endpoints that are gone, nothing is kept for good; and of many, not all is forgotten at once."""
    book: dict[str, int] = {}
    for number in range(MOST):
        remember(book, f"{number}", number)
    remember(book, "0", -1)
    remember(book, "new", 0)
    assert len(book) == MOST
    assert (book["0"], "1" in book, book["2"]) == (-1, False, 2)


def test_when_the_api_server_wants_to_be_asked_again_is_passed_on() -> None:
    bench = Bench()
    bench.server.failing = {
        ("create", DEPLOYMENT): [Unavailable("429", 40.0)],
        ("create", SERVICE): [Unavailable("429", 7.0)],
    }
    outcome = bench.once()
    assert [what for what, _ in outcome.delays] == ["Service whisper", "Deployment whisper"]
    assert outcome.retry_after == 40.0
    assert bench.once().retry_after == 0.0


def test_a_label_that_takes_a_child_out_of_sight_each_time_is_answered_ever_more_slowly(clock: Clock) -> None:
    bench = Bench()
    bench.settle()
    for _ in range(4):
        label_away(bench)
        bench.once()
        outcome = bench.once()
    assert len(bench.sent(DEPLOYMENT)) == 3
    assert outcome.repair_in == 5.0


def test_an_apply_that_may_not_take_as_long_as_it_takes_is_tried_in_this_state_and_no_other() -> None:
    """As behind an admission webhook that nobody answers, which lets pass after 10 s. No leader undoes another's work by it."""
    bench = Bench(replicas=2)
    bench.settle()
    before = bench.server.objects[DEPLOYMENT, "whisper"]["metadata"]["resourceVersion"]
    bench.resource["spec"]["replicas"] = 3
    bench.server.failing["apply", DEPLOYMENT] = [OutOfTime("not done within 8 s")]
    assert bench.once() == Outcome()
    (body,) = bench.sent(DEPLOYMENT)
    assert body["spec"]["replicas"] == 3
    assert body["metadata"]["resourceVersion"] == before
