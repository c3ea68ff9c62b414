"""The main flow where it goes wrong: whoever looks at the endpoint is told."""

import asyncio
import math
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import whisper_operator.reconcile as main_flow
from whisper_operator.apply.applier import Applier
from whisper_operator.apply.outcome import Outcome
from whisper_operator.apply.plan import Plan
from whisper_operator.config import Settings
from whisper_operator.informer.cache import Cache
from whisper_operator.kube.errors import Retry
from whisper_operator.kube.kinds import ENDPOINT
from whisper_operator.policy.ledger import Ledger
from whisper_operator.policy.reading import load
from whisper_operator.policy.rules import Policy
from whisper_operator.reconcile import reconcile, weigh
from whisper_operator.spec.endpoint import SpecError
from whisper_operator.status.status import Report
from whisper_operator.status.writer import StatusWriter

KEY = ("n", "w")


@dataclass
class Cluster:
    """Takes plans and reports."""

    outcome: Outcome = field(default_factory=Outcome)
    plans: list[Plan] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    held_back: float | None = None
    ledger: Ledger = field(default_factory=Ledger)

    async def apply(self, _: Any, plan: Plan) -> Outcome:
        self.plans.append(plan)
        return self.outcome

    async def write(self, _: Any, report: Report, *__: Any, **___: Any) -> float | None:
        self.reports.append(report)
        return self.held_back

    def reconcile(self, settings: Settings, policy: str = "{}", **spec: Any) -> float | None:
        cache = Cache()
        metadata = {"namespace": "n", "name": "w", "uid": "u", "resourceVersion": "1", "generation": 1}
        cache.upsert(ENDPOINT, {"metadata": metadata, "spec": spec})
        applier, writer = cast(Applier, self), cast(StatusWriter, self)
        return asyncio.run(
            reconcile(KEY, cache, applier, writer, settings, load(policy, settings), self.ledger)
        )

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
    assert (ready["status"], ready["reason"]) == ("False", "PolicyViolation")
    assert words in ready["message"]


async def test_all_is_weighed_before_the_first_is_told_that_there_is_room() -> None:
    """Also beside one that can't be understood."""
    cache, ledger = Cache(), Ledger()
    for created, (name, spec) in enumerate({"old": {}, "bad": {"replicas": "x"}, "new": {}}.items()):
        metadata = {"namespace": "n", "name": name, "uid": name, "resourceVersion": f"{created + 1}"}
        cache.upsert(ENDPOINT, {"metadata": {**metadata, "creationTimestamp": f"{created}"}, "spec": spec})
    policy = load("everywhere: {ceilings: {namespace: {gpus: 1}}}", SETTINGS)
    await weigh(cache.endpoints(), cache, SETTINGS, policy, ledger)
    with pytest.raises(SpecError, match="gpus 1"):
        ledger.grant(("n", "new"), policy)
    ledger.grant(("n", "old"), policy)


@pytest.mark.parametrize("then", [{"image": "x/y", "replicas": 2}, {"replicas": "x"}, None])
def test_who_is_refused_or_gone_keeps_no_room(then: dict[str, Any] | None) -> None:
    text = "everywhere: {registries: [], ceilings: {namespace: {gpus: 2}}}"
    cluster, policy = Cluster(), load(text, SETTINGS)
    cluster.reconcile(SETTINGS, text, replicas=2)
    other = {"metadata": {"namespace": "n", "name": "other"}}
    cluster.ledger.note(other, {"gpus": 2000}, {})
    with pytest.raises(SpecError, match="gpus 2"):
        cluster.ledger.grant(("n", "other"), policy)
    if then is None:
        writer = cast(StatusWriter, cluster)
        applier = cast(Applier, cluster)
        asyncio.run(reconcile(KEY, Cache(), applier, writer, SETTINGS, policy, cluster.ledger))
    else:
        cluster.reconcile(SETTINGS, text, **then)
    cluster.ledger.grant(("n", "other"), policy)


async def test_what_runs_in_a_namespace_that_is_left_takes_up_room_and_what_is_asked_for_there_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else whoever may make a Lease in a namespace could run as much there as everybody may have in all."""
    cache = Cache()
    for created, (namespace, name) in enumerate((("left", "old"), ("n", "new"))):
        metadata = {"namespace": namespace, "name": name, "uid": name, "resourceVersion": f"{created + 1}"}
        cache.upsert(ENDPOINT, {"metadata": {**metadata, "creationTimestamp": f"{created}"}, "spec": {}})
    policy = load("ceilings: {gpus: 1}", SETTINGS)

    async def weighed() -> Ledger:
        ledger = Ledger()
        await weigh(cache.endpoints(), cache, SETTINGS, policy, ledger, lambda namespace: namespace == "left")
        return ledger

    (await weighed()).grant(("n", "new"), policy)
    monkeypatch.setattr(main_flow, "held", lambda name, _: {"gpus": 1} if name == "old" else {})
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
    await weigh(cache.endpoints(), cache, SETTINGS, Policy(), Ledger())
    other.cancel()
    assert ran >= 10
