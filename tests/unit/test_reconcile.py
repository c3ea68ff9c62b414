"""The main flow where it goes wrong: whoever looks at the endpoint is told."""

import asyncio
import math
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from whisper_operator.apply.applier import Applier
from whisper_operator.apply.outcome import Outcome
from whisper_operator.apply.plan import Plan
from whisper_operator.config import Settings
from whisper_operator.informer.cache import Cache
from whisper_operator.kube.errors import Retry
from whisper_operator.kube.kinds import ENDPOINT
from whisper_operator.policy.amounts import Running
from whisper_operator.policy.ledger import Ledger
from whisper_operator.policy.reading import load
from whisper_operator.policy.rules import Policy
from whisper_operator.reconcile import ROOM_SECONDS, reconcile, weigh
from whisper_operator.spec.endpoint import SpecError
from whisper_operator.status.status import Report
from whisper_operator.status.writer import StatusWriter

KEY = ("n", "w")
NAMES = {"namespace": "n", "name": "w", "uid": "u"}


@dataclass
class Cluster:
    """Takes plans and reports."""

    outcome: Outcome = field(default_factory=Outcome)
    plans: list[Plan] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    held_back: float | None = None
    version: int = 0
    cache: Cache = field(default_factory=Cache)

    async def apply(self, _: Any, plan: Plan) -> Outcome:
        self.plans.append(plan)
        return self.outcome

    async def write(self, _: Any, report: Report, *__: Any, **___: Any) -> float | None:
        self.reports.append(report)
        return self.held_back

    def reconcile(self, settings: Settings, policy: str = "", **spec: Any) -> float | None:
        self.version += 1
        metadata = {"namespace": "n", "name": "w", "uid": "u", "generation": 1}
        metadata |= {"resourceVersion": str(self.version)}
        self.cache.upsert(ENDPOINT, {"metadata": metadata, "spec": spec})
        return self.look(settings, load(f"preset: none\n{policy}", settings))

    def look(self, settings: Settings, policy: Policy) -> float | None:
        applier, writer = cast(Applier, self), cast(StatusWriter, self)
        return asyncio.run(reconcile(KEY, self.cache, applier, writer, settings, policy))

    def told(self) -> dict[str, Any]:
        (report,) = self.reports
        return next(each for each in report.patch["conditions"] if each["type"] == "Ready")


class Broken(Settings):
    """What makes the operator itself fail."""

    def server_image(self, engine: str, model: str | None) -> str | None:
        raise RuntimeError(f"no idea of {model}")


def test_a_fault_of_the_operators_own_is_told_and_tried_again() -> None:
    cluster = Cluster()
    with pytest.raises(RuntimeError, match="no idea"):
        cluster.reconcile(Broken())
    ready = cluster.told()
    assert (ready["status"], ready["reason"]) == ("False", "OperatorFault")
    assert "RuntimeError: no idea of large-v3" in ready["message"]
    assert cluster.plans == [Plan()]  # what runs stays


def test_a_fault_in_a_write_is_an_error_and_told_at_once() -> None:
    """It is no delay that passes, though it is tried again like one."""
    fault = TypeError("no way")
    cluster = Cluster(Outcome(delays=(("Service w", "a fault of the operator's own"),), fault=fault))
    with pytest.raises(TypeError, match="no way"):
        cluster.reconcile(Settings(server_repository="r", server_version="1"))
    assert "Service w: a fault of the operator's own" in cluster.told()["message"]


@pytest.mark.parametrize(("seconds", "told"), [(0.5, False), (31.0, True)])
def test_a_delay_is_told_once_it_lasts(seconds: float, told: bool) -> None:
    """Until then, no status says that all is written."""
    cluster = Cluster(Outcome(delays=(("Service w", "409"),), delayed_for=seconds, retry_after=7.0))
    with pytest.raises(Retry, match="Service w: 409") as retry:
        cluster.reconcile(Settings(server_repository="r", server_version="1"))
    assert retry.value.within == (math.inf if told else 29.5)  # when it is to be told
    assert retry.value.after == 7.0
    assert bool(cluster.reports) is told
    if told:
        assert cluster.told()["reason"] == "ApplyDelayed"


def test_a_delay_whose_telling_is_held_back_is_told_once_that_may_be() -> None:
    """However long the write itself backs off by then."""
    cluster = Cluster(Outcome(delays=(("Service w", "409"),), delayed_for=31.0), held_back=1.0)
    with pytest.raises(Retry, match="Service w: 409") as retry:
        cluster.reconcile(Settings(server_repository="r", server_version="1"))
    assert retry.value.within == 1.0


SETTINGS = Settings(server_repository="r", server_version="1")


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("everywhere: {registries: []}", "spec.image 'x/y' (no registries are allowed)"),
        ("everywhere: {ceilings: {endpoint: {replicas: 2}}}", "replicas 3 (an endpoint may ask for 2)"),
        ("everywhere: {ceilings: {namespace: {gpus: 2}}}", "gpus 3 (namespace n may ask for 2 in all)"),
        ("ceilings: {cpu: 11}", "cpu 12 (all that the installation may use is spoken for)"),
    ],
)
def test_what_the_policy_does_not_allow_is_told_and_changes_nothing(policy: str, words: str) -> None:
    cluster = Cluster()
    cluster.reconcile(SETTINGS, policy, image="x/y", replicas=3)
    assert cluster.plans == [Plan()]
    ready = cluster.told()
    reason = "CeilingReached" if words.startswith(("gpus", "cpu")) else "PolicyViolation"
    assert (ready["status"], ready["reason"]) == ("False", reason)
    assert words in ready["message"]
    (report,) = cluster.reports
    stalled = [each for each in report.patch["conditions"] if each["type"] == "Stalled"]
    assert bool(stalled) == (reason == "PolicyViolation"), "room comes by itself"


async def test_all_is_weighed_before_the_first_is_told_that_there_is_room() -> None:
    """Also beside one that can't be understood."""
    cache = Cache()
    for created, (name, spec) in enumerate({"old": {}, "bad": {"replicas": "x"}, "new": {}}.items()):
        metadata = {"namespace": "n", "name": name, "uid": name, "resourceVersion": f"{created + 1}"}
        cache.upsert(ENDPOINT, {"metadata": {**metadata, "creationTimestamp": f"{created}"}, "spec": spec})
    policy = load("{preset: none, everywhere: {ceilings: {namespace: {gpus: 1}}}}", SETTINGS)
    await weigh(cache.endpoints(), cache, SETTINGS, policy)
    with pytest.raises(SpecError, match="gpus 1"):
        cache.ledger.grant(("n", "new"), policy)
    cache.ledger.grant(("n", "old"), policy)


def test_what_is_allowed_anew_is_given_by_age() -> None:
    """Who was refused before has asked for nothing since: all are weighed again when the policy changes."""
    cluster = Cluster()
    strict = load("{preset: none, everywhere: {registries: []}}", SETTINGS)
    wide = load("{preset: none, everywhere: {ceilings: {namespace: {gpus: 1}}}}", SETTINGS)
    for created, name in enumerate(("old", "w")):
        metadata = {"namespace": "n", "name": name, "uid": name, "resourceVersion": f"{created + 1}"}
        metadata |= {"creationTimestamp": f"{created}"}
        cluster.cache.upsert(ENDPOINT, {"metadata": metadata, "spec": {"image": "x/y"}})
    keys = cluster.cache.endpoints()
    for policy in (strict, wide):
        asyncio.run(weigh(keys, cluster.cache, SETTINGS, policy))
    cluster.look(SETTINGS, wide)
    assert cluster.told()["reason"] == "CeilingReached"


ROOM = "everywhere: {registries: [], ceilings: {namespace: {gpus: 2}}}"


@pytest.mark.parametrize("then", [{"image": "x/y", "replicas": 2}, {"replicas": "x"}, None])
def test_who_is_refused_or_gone_keeps_no_room_beyond_what_runs(then: dict[str, Any] | None) -> None:
    cluster, policy = Cluster(Outcome(delays=(("Deployment w", "no answer"),))), load(
        f"preset: none\n{ROOM}", SETTINGS
    )  # fmt: skip
    with pytest.raises(Retry):
        cluster.reconcile(SETTINGS, ROOM, replicas=2)  # which may have been written
    ledger = cluster.cache.ledger
    ledger.ask({"metadata": {"namespace": "n", "name": "other"}}, {"gpus": 2000})
    with pytest.raises(SpecError, match="gpus 2"):
        ledger.grant(("n", "other"), policy)
    cluster.outcome = Outcome()
    if then is None:
        cluster.cache.delete(ENDPOINT, {"metadata": {**NAMES, "resourceVersion": "9"}})
        cluster.look(SETTINGS, policy)
    else:
        cluster.reconcile(SETTINGS, ROOM, **then)
    ledger.grant(("n", "other"), policy)


def test_a_fault_of_the_operators_own_takes_no_room_from_who_has_it() -> None:
    """What was granted may have been written by now, and the answer lost."""
    cluster = Cluster(Outcome(delays=(("Deployment w", "no answer"),)))
    with pytest.raises(Retry):
        cluster.reconcile(SETTINGS, ROOM, replicas=2)
    cluster.outcome = Outcome()
    with pytest.raises(RuntimeError, match="no idea"):
        cluster.reconcile(Broken(server_repository="r", server_version="1"), ROOM, replicas=2)
    ledger = cluster.cache.ledger
    ledger.ask({"metadata": {"namespace": "n", "name": "other"}}, {"gpus": 2000})
    with pytest.raises(SpecError, match="gpus 2"):
        ledger.grant(("n", "other"), load(f"preset: none\n{ROOM}", SETTINGS))


def test_who_may_have_a_host_and_writes_nothing_leaves_the_room_to_others() -> None:
    """As where a quota refuses its Deployment."""
    cluster = Cluster()
    cluster.reconcile(SETTINGS, ROOM, replicas=2)
    ledger = cluster.cache.ledger
    ledger.ask({"metadata": {"namespace": "n", "name": "other"}}, {"gpus": 2000})
    ledger.grant(("n", "other"), load(f"preset: none\n{ROOM}", SETTINGS))


def test_one_on_its_way_out_asks_for_nothing_and_is_left_alone() -> None:
    cluster = Cluster()
    metadata = {"namespace": "n", "name": "w", "uid": "u", "resourceVersion": "1", "deletionTimestamp": "x"}
    cluster.cache.upsert(ENDPOINT, {"metadata": {**metadata, "finalizers": ["a/b"]}, "spec": {}})
    cluster.look(SETTINGS, load("preset: none", SETTINGS))
    assert cluster.plans == []


W = "w.example.com"


@pytest.mark.parametrize(
    "spec",
    [
        {"image": "evil.org/x"},
        {"replicas": 9},
        {},  # without keys
    ],
)
def test_who_may_not_have_what_it_asks_for_keeps_nobody_from_a_host(spec: dict[str, Any]) -> None:
    """However early it asked, and though its host alone would be its own."""
    text = "everywhere: {registries: [], publicWithoutAuth: deny, ceilings: {namespace: {gpus: 4}}}"
    cluster = Cluster()
    metadata = {
        "namespace": "m",
        "name": "late",
        "uid": "v",
        "resourceVersion": "7",
        "creationTimestamp": "9",
    }
    cluster.cache.upsert(ENDPOINT, {"metadata": metadata, "spec": {"host": W}})
    cluster.reconcile(SETTINGS, text, host=W, auth={"secretName": "k"})
    assert cluster.cache.claimed_by_others(("m", "late")) == [(("host", W), KEY)]
    keys = {} if not spec else {"auth": {"secretName": "k"}}
    cluster.reconcile(SETTINGS, text, host=W, **keys, **spec)
    assert cluster.cache.claimed_by_others(("m", "late")) == []
    asyncio.run(weigh([KEY], cluster.cache, SETTINGS, load(f"preset: none\n{text}", SETTINGS)))
    assert (cluster.cache.claimed_by_others(("m", "late")) == []) or spec == {"replicas": 9}


def test_who_has_no_room_takes_no_host_back_by_waiting_for_it() -> None:
    """Or the two would take it from each other for ever, the elder to be refused each time."""
    cluster, late = Cluster(), ("m", "late")
    cluster.reconcile(SETTINGS, ROOM, host=W, replicas=9)
    assert cluster.told()["reason"] == "CeilingReached"
    metadata = {
        "namespace": "m",
        "name": "late",
        "uid": "v",
        "resourceVersion": "7",
        "creationTimestamp": "9",
    }
    cluster.cache.upsert(ENDPOINT, {"metadata": metadata, "spec": {"host": W}})
    for _ in range(2):
        cluster.reports.clear()
        cluster.look(SETTINGS, load(f"preset: none\n{ROOM}", SETTINGS))
        assert cluster.told()["reason"] == "HostConflict"
        assert cluster.cache.claimed_by_others(late) == []


def test_who_waits_for_room_looks_for_it_by_itself_as_well() -> None:
    cluster = Cluster()
    assert cluster.reconcile(SETTINGS, ROOM, replicas=9) == ROOM_SECONDS


def test_while_the_policy_cant_be_read_nothing_changes_and_a_suspension_works() -> None:
    cluster = Cluster()
    cluster.cache.upsert(ENDPOINT, {"metadata": {**NAMES, "resourceVersion": "1"}, "spec": {}})
    cluster.look(SETTINGS, Policy.closed())
    assert cluster.plans == [Plan()]
    ready = cluster.told()
    assert (ready["reason"], ready["status"]) == ("PolicyViolation", "False")
    assert "policy can't be used" in ready["message"]


async def test_what_runs_in_a_namespace_that_is_left_takes_up_room_and_what_is_asked_for_there_does_not() -> (
    None
):
    """Else whoever may make a Lease in a namespace could run as much there as everybody may have in all."""
    cache = Cache()
    for created, (namespace, name) in enumerate((("left", "old"), ("n", "new"))):
        metadata = {"namespace": namespace, "name": name, "uid": name, "resourceVersion": f"{created + 1}"}
        cache.upsert(ENDPOINT, {"metadata": {**metadata, "creationTimestamp": f"{created}"}, "spec": {}})
    policy = load("{preset: none, ceilings: {gpus: 1}}", SETTINGS)

    async def weighed() -> Ledger:
        cache.ledger.begin(policy)
        await weigh(cache.endpoints(), cache, SETTINGS, policy, lambda namespace: namespace == "left")
        return cache.ledger

    (await weighed()).grant(("n", "new"), policy)
    cache.ledger.hold(("left", "old"), Running(kept={"gpus": 1000}))
    with pytest.raises(SpecError, match="all that the installation may use is spoken for"):
        (await weighed()).grant(("n", "new"), policy)


async def test_weighing_many_endpoints_lets_others_run() -> None:
    """Such as the renewal of the Lease, which would run out for ever on a slow machine."""
    cache = Cache()
    for number in range(200):
        metadata = {"namespace": "n", "name": f"e{number}", "uid": f"{number}", "resourceVersion": "1"}
        cache.upsert(ENDPOINT, {"metadata": metadata, "spec": {}})
    ran = 0

    async def run() -> None:
        nonlocal ran
        while True:
            ran += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(run())
    await weigh(cache.endpoints(), cache, SETTINGS, Policy())
    other.cancel()
    assert ran >= 10
