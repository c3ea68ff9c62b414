"""After any sequence in which two replicas die, freeze and are cut off, and the policy and the version change under them, a
cluster equals a fresh apply; only the leader has written, and no pod was restarted that need not be.

$WHISPER_PROPERTY_MINUTES as for test_any_sequence.py.
"""

import os
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition

from devcluster import Cluster
from devcluster.faults import FAULTS, FaultProxy
from devcluster.installation import IMAGES, USER, WRITES, Operator, install
from tests.cluster.drawn import EDITS, FIELDS, KINDS, NAME, POLICIES
from tests.cluster.history import History
from tests.cluster.second_installation import SECOND, SECOND_USER, install_second
from tests.cluster.support import condition, endpoint, is_change, live, now, until
from tests.cluster.transitions import CEILING, CHANCE, LIST_AGAIN_SECONDS, MINUTES, Transitions, search, step
from tests.cluster.witnesses import Bystanders, amiss, crowded, is_lease, unfenced

REPLICAS = ("one", "two")
LEASE = "whisper-operator-leader"
QUIET = "bystanders"
BYSTANDERS: dict[str, dict[str, Any]] = {
    "alone": {"host": "alone.example.com"},
    "pair": {"host": "pair.example.com", "replicas": 2},
}
PASSING = {"PolicyViolation", "CeilingReached", "RollingOut"}
"""Reasons that may keep a bystander from being Ready for a while."""
WHO = st.sampled_from([["leader"], ["leader"], ["other"], ["leader", "other"]])
PAUSES = st.sampled_from([0.0, 2.0, 5.0, 12.0])
"""Shorter and longer than a Lease."""
SIGNS = st.sampled_from([signal.SIGKILL, signal.SIGTERM])


class TwoLeaders(Transitions):
    """Under two replicas, one of which leads, and now and then beside another installation."""

    second: ClassVar[Operator]
    bystanders: ClassVar[Bystanders]
    versions: ClassVar[list[str]]
    """Of the server, oldest first."""
    folder: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.frozen: set[str] = set()
        self.cut_off: set[str] = set()
        self.policy: dict[str, Any] = {}
        self.fighting = False
        self.history = ExitStack()

    @initialize(chance=CHANCE, public=st.sampled_from(FIELDS["public"]), size=st.sampled_from(FIELDS["size"]))
    def begin(self, chance: int, public: dict[str, Any], size: dict[str, Any]) -> None:
        assume(chance)
        kinds = ("deployments", "pods", "whisperendpoints")
        self.watched = self.history.enter_context(History(self.cluster, QUIET, self.folder, *kinds))
        self._cloud({})
        self.chosen = {"public": public, "size": size}
        self._apply()

    @precondition(lambda self: len(self.stopped) < 2)
    @step(who=WHO, sign=SIGNS)
    def replicas_end(self, who: list[str], sign: signal.Signals) -> None:
        for name in self._named(who) - self.stopped:
            self._stop(name, sign)

    @precondition(lambda self: self.stopped and self._policy_is_good())
    @step(after=PAUSES)
    def replicas_start(self, after: float) -> None:
        time.sleep(after)
        for name in sorted(self.stopped):
            self._start(name)

    @precondition(lambda self: self.frozen | self.stopped != set(REPLICAS))
    @step(who=WHO, at_work=st.booleans(), seconds=st.none() | PAUSES)
    def replicas_freeze(self, who: list[str], at_work: bool, seconds: float | None) -> None:
        """For so long, or until woken. At work: in the middle of a job, which they go on with when they wake."""
        names = self._named(who) - self.stopped - self.frozen
        if at_work:
            for name in names:
                self.proxies[name].fail(*["slow"] * 20)
            self.delete_every_child()
        for name in names:
            os.kill(self.operators[name].pid, signal.SIGSTOP)
            self.frozen.add(name)
        if seconds is not None:
            self.replicas_wake(seconds)

    @precondition(lambda self: self.frozen)
    @step(after=PAUSES)
    def replicas_wake(self, after: float) -> None:
        time.sleep(after)
        for name in sorted(self.frozen):
            self._wake(name)

    @precondition(lambda self: self.cut_off != set(REPLICAS))
    @step(who=WHO, how=st.sampled_from(["refuse", "hang"]), seconds=st.none() | PAUSES)
    def replicas_are_cut_off(self, who: list[str], how: str, seconds: float | None) -> None:
        for name in self._named(who):
            self.proxies[name].cut_off(how)
            self.cut_off.add(name)
        if seconds is not None:
            self.the_way_is_clear_again(seconds)

    @precondition(lambda self: self.cut_off)
    @step(after=PAUSES)
    def the_way_is_clear_again(self, after: float) -> None:
        time.sleep(after)
        for proxy in self.proxies.values():
            proxy.behave()
        self.cut_off.clear()

    @step(
        who=st.sampled_from(["leader", "other"]),
        fault=st.sampled_from(["503", "cut", "lost"]),
        seconds=st.sampled_from([5.0, 12.0]),
    )
    def the_lease_is_out_of_reach(self, who: str, fault: str, seconds: float) -> None:
        """And all else is not, so that whoever leads could go on writing."""
        (name,) = self._named([who])
        with self.proxies[name].always(fault, LEASE):
            time.sleep(seconds)
            self.delete_every_child()
            time.sleep(1.0)

    @step(who=WHO, faults=st.lists(st.sampled_from(["", *FAULTS]), min_size=1, max_size=8))
    def requests_go_wrong(self, who: list[str], faults: list[str]) -> None:
        for name in self._named(who):
            self.proxies[name].fail(*faults)

    @step(who=WHO)
    def watches_break(self, who: list[str]) -> None:
        for name in self._named(who):
            self.proxies[name].drop_watches()

    @step(who=WHO, kind=st.sampled_from(KINDS), edit=st.sampled_from(EDITS))
    def children_change_while_watches_are_blind(
        self, who: list[str], kind: str, edit: tuple[str, dict[str, Any]]
    ) -> None:
        with ExitStack() as blind:
            for name in self._named(who):
                blind.enter_context(self.proxies[name].blind())
            self.delete_a_child(kind, "background")
            self.edit_a_child(edit)
        self.blind_until = time.monotonic()

    @step(policy=st.sampled_from(POLICIES))
    def the_policy_changes(self, policy: dict[str, Any]) -> None:
        self.policy = policy
        for operator in self.operators.values():
            operator.set_policy(policy, wait=False)

    @precondition(lambda self: self._policy_is_good())
    @step(sign=SIGNS, first=st.sampled_from(REPLICAS), after=PAUSES)
    def the_version_changes(self, sign: signal.Signals, first: str, after: float) -> None:
        """Each replica ends and begins anew with it; while the second one has the old, it is the only one that works."""
        self.versions.append(f"0.{len(self.versions) + 1}.0")
        for name in sorted(REPLICAS, key=lambda each: each != first):
            self.operators[name].configure(configuration(self.versions[-1]))
            if name not in self.stopped:
                self._stop(name, sign)
                self._start(name)
        time.sleep(after)

    @precondition(lambda self: not self.fighting)
    @step()
    def another_installation_begins(self) -> None:
        self.second.start()
        self.fighting = True

    @precondition(lambda self: self.fighting)
    @step(sign=SIGNS)
    def the_other_installation_ends(self, sign: signal.Signals) -> None:
        self.second.stop(sign)
        self.fighting = False

    def heal(self) -> None:
        self.replicas_wake(0.0)
        self.the_way_is_clear_again(0.0)
        if self.fighting:
            self.the_other_installation_ends(signal.SIGTERM)
        self.the_policy_changes({})
        for name in sorted(self.stopped):
            self._start(name)
        for operator in self.operators.values():
            until(lambda it=operator: it.ask("/healthz"), "it answers", CEILING)  # type: ignore[misc]
            # All is allowed, in words that it has never seen: what it tells of is this.
            operator.set_policy({"namespaces": {f"nobody-{time.time_ns()}": {}}})
        until(self.all_is_read, "all is read again", CEILING)
        self._wait_until_one_works()
        until(self._all_are_upgraded, "the bystanders are Ready with the last version", CEILING)

    def witness(self) -> list[str]:
        for name in BYSTANDERS:
            for kind in ("deployments", "whisperendpoints"):
                self.watched.seen_up_to(kind, name)
        ended = [
            f"{name} ended by itself"
            for name, each in self.operators.items()
            if each.exit_status() is not None
        ]
        by_second = self.cluster.audit(user=SECOND_USER, verbs=WRITES, since=self.began)
        return [
            *ended,
            *unfenced(self.cluster.audit(user=USER, verbs=WRITES), LEASE, self.began),
            *self.bystanders.restarted(self.watched.states("deployments", "pods"), self.versions),
            *crowded(self.watched.states("deployments")),
            *amiss(self.watched.states("whisperendpoints"), PASSING),
            *(f"the other installation wrote: {event}" for event in by_second if is_change(event)),
        ]

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self.history.close()

    def _named(self, who: Collection[str]) -> set[str]:
        """Who that is now: the leader is who wrote the Lease last, though it may be frozen."""
        leases = [
            event
            for event in self.cluster.audit(user=USER, verbs=WRITES, since=now() - timedelta(seconds=60))
            if is_lease(event, LEASE) and event.code < 300
        ]
        leader = leases[-1].user_agent if leases else REPLICAS[0]
        roles = {"leader": leader, "other": next(name for name in REPLICAS if name != leader)}
        found = {roles[each] for each in who}
        self.tell(f"  which is {sorted(found)}")
        return found

    def _stop(self, name: str, sign: signal.Signals) -> None:
        if name in self.frozen and sign != signal.SIGKILL:
            self._wake(name)
        self.frozen.discard(name)
        self.operators[name].stop(sign)
        self.stopped.add(name)

    def _start(self, name: str) -> None:
        self.operators[name].start()
        self.stopped.discard(name)

    def _wake(self, name: str) -> None:
        os.kill(self.operators[name].pid, signal.SIGCONT)
        self.frozen.discard(name)

    def _policy_is_good(self) -> bool:
        """Else who starts under it ends at once, as it has no earlier one to keep."""
        return self.policy != POLICIES[-1]

    def _wait_until_one_works(self) -> None:
        """A Lease whose holder died has to run out first: until then all is quiet, too."""
        leader = until(
            lambda: next((o for o in self.operators.values() if o.metric("whisper_operator_leader")), None),
            "one leads",
            CEILING,
        )
        before = leader.metric("whisper_operator_reconciles_total", result="done")
        self._try("annotate", "wep", NAME, f"example.com/seen={time.time_ns()}", "--overwrite")
        until(
            lambda: leader.metric("whisper_operator_reconciles_total", result="done") > before,
            "the leader works",
            CEILING,
        )

    def _all_are_upgraded(self) -> bool:
        for name in BYSTANDERS:
            image = self.cluster.get("deployment", name, "-n", QUIET)["spec"]["template"]["spec"][
                "containers"
            ]
            ready = condition(live(self.cluster, QUIET, name), "Ready")
            if f":{self.versions[-1]}-" not in image[0]["image"] or ready.get("reason") != "Ready":
                return False
        return True


def configuration(version: str) -> dict[str, Any]:
    return {
        "listAgainSeconds": LIST_AGAIN_SECONDS,
        "settleSeconds": 2,
        "server": {**IMAGES, "version": version},
    }


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with Cluster.start() as cluster, ExitStack() as stack:
        for name in (SECOND, QUIET):
            cluster.kubectl("create", "namespace", name)
        install(cluster)
        install_second(cluster)
        machine = TwoLeaders
        machine.cluster, machine.folder = cluster, tmp_path_factory.mktemp("watched")
        machine.versions = [IMAGES["version"]]
        machine.bystanders = Bystanders({name: spec.get("replicas", 1) for name, spec in BYSTANDERS.items()})
        machine.proxies = {name: stack.enter_context(FaultProxy(cluster, name)) for name in REPLICAS}
        machine.operators = {
            name: stack.enter_context(
                Operator(cluster, configuration(IMAGES["version"]), name=name, server=proxy.url)
            )
            for name, proxy in machine.proxies.items()
        }
        machine.second = Operator(cluster, configuration("9.9.9"), name="second", namespace=SECOND)
        cluster.apply(*(endpoint(name, QUIET, **spec) for name, spec in BYSTANDERS.items()))
        for name in BYSTANDERS:
            until(lambda it=name: condition(live(cluster, QUIET, it), "Ready").get("status") == "True", name)  # type: ignore[misc]
        yield


@pytest.mark.timeout(900 + MINUTES * 60)
def test_any_sequence_under_two_leaders_ends_as_a_fresh_apply(stage: None) -> None:
    search(TwoLeaders, examples=2, steps=14, minutes=MINUTES)
