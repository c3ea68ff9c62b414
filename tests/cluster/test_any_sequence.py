"""After any sequence of edits, faults and restarts, a cluster equals a fresh apply of the last spec.

Random sequences by hypothesis; a failure prints the steps that led to it. $WHISPER_PROPERTY_MINUTES says for how long to
search, with new sequences each time; unset, the same few run every time.
"""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition

from devcluster import Cluster
from devcluster.faults import FAULTS, FaultProxy
from devcluster.installation import Operator, install
from tests.cluster.drawn import EDITS, FIELDS, KINDS, NAME
from tests.cluster.support import until
from tests.cluster.transitions import CEILING, CHANCE, LIST_AGAIN_SECONDS, MINUTES, Transitions, search, step

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RIGHTS = list(yaml.safe_load_all((DEPLOY / "overlays" / "namespaced" / "rights.yaml").read_text()))
"""Of an installation for some namespaces, in one of them."""
FORBIDDABLE = [
    "whisperendpoints",
    "whisperendpoints/status",
    *("deployments", "services", "ingresses", "horizontalpodautoscalers", "poddisruptionbudgets"),
    *("backendconfigs", "managedcertificates", "podmonitorings", "replicasets", "pods", "events"),
]
"""What the rights of a rule of the ClusterRole are for; those for what stands beside it in the rule go with them."""


class AnySequence(Transitions):
    """Under one operator, whose rights come and go."""

    role: ClassVar[str]
    """The installed ClusterRole."""
    namespaced: ClassVar[bool]
    autopilot: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.forbidden: set[str] = set()

    @initialize(
        chance=CHANCE,
        autopilot=st.booleans(),
        public=st.sampled_from(FIELDS["public"]),
        size=st.sampled_from(FIELDS["size"]),
    )
    def begin(self, chance: int, autopilot: bool, public: dict[str, Any], size: dict[str, Any]) -> None:
        assume(chance)
        if autopilot != AnySequence.autopilot:
            self.cluster.autopilot(autopilot)
            AnySequence.autopilot = autopilot
        self._cloud({})
        self.chosen = {"public": public, "size": size}
        self._apply()

    @step(faults=st.lists(st.sampled_from(["", *FAULTS]), min_size=1, max_size=8))
    def requests_go_wrong(self, faults: list[str]) -> None:
        self.proxies["operator"].fail(*faults)

    @step()
    def watches_break(self) -> None:
        self.proxies["operator"].drop_watches()

    @step(kind=st.sampled_from(KINDS), edit=st.sampled_from(EDITS))
    def children_are_deleted_and_edited_while_the_watches_are_blind(
        self, kind: str, edit: tuple[str, dict[str, Any]]
    ) -> None:
        with self.proxies["operator"].blind():
            self.delete_a_child(kind, "background")
            self.edit_a_child(edit)
        self.blind_until = time.monotonic()

    @step(kinds=st.sets(st.sampled_from(FORBIDDABLE), min_size=1, max_size=3))
    def kinds_turn_forbidden(self, kinds: set[str]) -> None:
        self.forbidden |= kinds
        self._grant()

    @precondition(lambda self: self.namespaced)
    @step()
    def the_namespace_turns_forbidden(self) -> None:
        self.forbidden.add("everything")
        self.cluster.kubectl(
            "delete", "rolebinding", "whisper-operator", "-n", "default", "--ignore-not-found"
        )

    @precondition(lambda self: self.forbidden)
    @step()
    def all_is_allowed_again(self) -> None:
        self.forbidden.clear()
        self._grant()

    @precondition(lambda self: not self.stopped)
    @step(sign=st.sampled_from([signal.SIGKILL, signal.SIGTERM]))
    def the_operator_ends(self, sign: signal.Signals) -> None:
        self.operators["operator"].stop(sign)
        self.stopped.add("operator")

    @precondition(lambda self: self.stopped)
    @step()
    def the_operator_starts(self) -> None:
        self.operators["operator"].start()
        self.stopped.clear()

    def heal(self) -> None:
        self.proxies["operator"].behave()
        was_forbidden = bool(self.forbidden)
        self.all_is_allowed_again()
        if self.stopped:
            self.the_operator_starts()
        until(self.all_is_read, "all is read again", CEILING)
        if was_forbidden:  # What was refused is tried again every half minute: here it may be at once.
            self._try("annotate", "wep", NAME, f"example.com/seen={time.time_ns()}", "--overwrite")

    def _grant(self) -> None:
        """Give the rights of the installation, but for what is forbidden."""
        role = json.loads(self.role)
        role["metadata"] = {"name": role["metadata"]["name"]}
        role["rules"] = [rule for rule in role["rules"] if not self.forbidden & set(rule["resources"])]
        self.cluster.kubectl("replace", "-f", "-", input=json.dumps(role))
        if self.namespaced and "everything" not in self.forbidden:
            give_rights(self.cluster)


def give_rights(cluster: Cluster) -> None:
    """Of an installation for the namespace `default`."""
    cluster.apply(*({**each, "metadata": {**each["metadata"], "namespace": "default"}} for each in RIGHTS))


@pytest.fixture(scope="module", params=[False, True], ids=["everywhere", "in some namespaces"])
def stage(request: pytest.FixtureRequest) -> Iterator[None]:
    """A cluster of its own: its faults are nobody else's."""
    namespaced = bool(request.param)
    chosen: dict[str, Any] = {"listAgainSeconds": LIST_AGAIN_SECONDS}
    if namespaced:
        chosen["namespaces"] = ["default", "asr"]
    with Cluster.start() as cluster, FaultProxy(cluster) as proxy:
        cluster.kubectl("create", "namespace", "asr")
        install(cluster, "overlays/namespaced" if namespaced else "base")
        AnySequence.namespaced, AnySequence.autopilot = namespaced, False
        AnySequence.cluster, AnySequence.proxies = cluster, {"operator": proxy}
        if namespaced:
            give_rights(cluster)
        AnySequence.role = cluster.kubectl("get", "clusterrole", "whisper-operator", "-o", "json")
        with Operator(cluster, chosen, server=proxy.url) as operator:
            operator.wait_until_working()
            AnySequence.operators = {"operator": operator}
            yield


@pytest.mark.timeout(900 + MINUTES * 60)
def test_any_sequence_ends_as_a_fresh_apply(stage: None) -> None:
    half = MINUTES / 2  # the other half is for the other installation
    search(AnySequence, examples=5, steps=12, minutes=half)
