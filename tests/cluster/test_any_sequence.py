"""After any sequence of edits, faults and restarts, a cluster equals a fresh apply of the last spec.

Random sequences by hypothesis; a failure prints the steps that led to it. $WHISPER_PROPERTY_MINUTES says for how long to
search, with new sequences each time; unset, the same few run every time.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from hypothesis import HealthCheck, Phase, note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from devcluster import Cluster, DevclusterError
from devcluster.faults import FAULTS, FaultProxy
from devcluster.installation import Operator, install
from tests.cluster.declared import Snapshot, declared, differences, said
from tests.cluster.support import condition, endpoint, live, now, own_faults, until, writes

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
MINUTES = float(os.environ.get("WHISPER_PROPERTY_MINUTES", "0"))
NAME = "w"
A, B = "a.example.com", "b.example.com"
QUIET_SECONDS = 3.0
CEILING = 180.0
LIST_AGAIN_SECONDS = 5

FIELDS: dict[str, list[dict[str, Any]]] = {
    "size": [
        {},
        {"replicas": 1},
        {"replicas": 3},
        {"autoscaling": {"max": 3}},
        {"autoscaling": {"min": 2, "max": 4, "targetInFlight": 5}},
        {"suspend": True},
    ],
    "device": [
        {},
        {"device": "cpu"},
        {"accelerator": {"type": "nvidia-l4"}},
        {"accelerator": {"spot": True}},
        {"accelerator": {"type": "abacus"}},
    ],
    "public": [
        {},
        {"host": A, "staticIPName": "one"},
        {"host": A, "additionalHosts": [B]},
        {"host": B},
        {"host": A, "ingress": {"httpsRedirect": True}},
        {"host": A, "additionalHosts": [B], "ingress": {"httpsRedirect": True, "sslPolicy": "strict"}},
        {"host": A, "ingress": {"securityPolicy": "armor"}},
        {"host": A, "ingress": {"tls": {"mode": "none"}}},
        {"host": A, "ingress": {"tls": {"preSharedCert": "shared"}}},
        {"host": A, "ingress": {"class": "traefik", "tls": {"secretName": "tls"}}},
        {"host": A, "ingress": {"class": "gce-internal"}},
    ],
    "rollout": [{}, {"rollout": "Recreate"}],
    "model": [
        {},
        {"model": "turbo"},
        {"engine": "faster-whisper", "model": "small"},
        {"model": "base", "modelVolume": {"emptyDir": {"sizeLimit": "2Gi"}}},
    ],
    "other": [
        {},
        {"limits": {"requestTimeoutSeconds": 120}},
        {"cors": {"allowedOrigins": ["https://example.com"]}},
        {"defaults": {"language": "de", "vad": True}},
        {"auth": {"secretName": "keys"}},
        {"resources": {"requests": {"cpu": "1500m", "memory": "4Gi"}}},
        {"scheduling": {"podLabels": {"team": "x"}, "env": [{"name": "LEVEL", "value": "1"}]}},
    ],
}
"""Parts of a spec; those of one name exclude each other, all else goes together."""

BROKEN = {"accelerator": {"type": "abacus"}}

EDITS: list[tuple[str, dict[str, Any]]] = [
    ("deployment", {"spec": {"template": {"spec": {"enableServiceLinks": True}}}}),
    ("deployment", {"spec": {"replicas": 5}}),
    ("deployment", {"spec": {"template": {"spec": {"containers": [{"name": "renamed", "image": "x"}]}}}}),
    ("deployment", {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}}),
    ("deployment", {"metadata": {"annotations": {"whisper-operator.io/applied-hash": None}}}),
    ("deployment", {"spec": {"template": {"spec": {"tolerations": [{"operator": "Exists"}]}}}}),
    (
        "deployment",
        {"spec": {"template": {"spec": {"volumes": [{"name": "tmp", "hostPath": {"path": "/"}}]}}}},
    ),
    ("deployment", {"metadata": {"ownerReferences": []}}),
    ("service", {"spec": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8"]}}),
    ("ingress", {"spec": {"tls": [{"secretName": "nope"}], "ingressClassName": "nginx"}}),
    ("poddisruptionbudget", {"spec": {"minAvailable": 1, "maxUnavailable": None}}),
    ("service", {"spec": {"selector": {"whisper-operator.io/endpoint": "x"}}}),
    ("service", {"spec": {"ports": [{"name": "other", "port": 8001}]}}),
    ("service", {"metadata": {"annotations": {"cloud.google.com/neg": None}}}),
    ("service", {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}),
    ("service", {"metadata": {"labels": {"whisper-operator.io/endpoint": "other"}}}),
    ("ingress", {"spec": {"rules": [{"host": "c.example.com"}]}}),
    ("ingress", {"metadata": {"annotations": {"networking.gke.io/managed-certificates": "other"}}}),
    ("backendconfig", {"spec": {"timeoutSec": 30}}),
    ("frontendconfig", {"spec": {"redirectToHttps": {"enabled": False}}}),
    ("networkpolicy", {"spec": {"ingress": []}}),
    ("horizontalpodautoscaler", {"spec": {"maxReplicas": 9}}),
    ("poddisruptionbudget", {"spec": {"maxUnavailable": 3}}),
    ("managedcertificate", {"spec": {"domains": ["c.example.com"]}}),
    ("podmonitoring", {"spec": {"endpoints": [{"port": "other", "interval": "10s"}]}}),
]
KINDS = sorted({kind for kind, _ in EDITS})

CLOUD: list[dict[str, str]] = [
    {},
    {"certificates": "Provisioning"},
    {"certificates": "FailedNotVisible"},
    {"certificates": "RenewalFailed"},
    {f"certificate.{B}": "FailedCaaForbidden"},
    {"noAddress": "true"},
]
"""Faults of Google's side."""
RIGHTS = yaml.safe_load((DEPLOY / "overlays" / "namespaced" / "rights.yaml").read_text())
"""Of an installation for some namespaces, in one of them."""
FORBIDDABLE = [
    "whisperendpoints",
    "whisperendpoints/status",
    *("deployments", "services", "ingresses", "horizontalpodautoscalers", "poddisruptionbudgets"),
    *("backendconfigs", "managedcertificates", "podmonitorings", "replicasets", "pods", "events"),
]
"""What the rights of a rule of the ClusterRole are for; those for what stands beside it in the rule go with them."""
SOON = {"certificateSeconds": "0.3", "addressSeconds": "0.2", "negSeconds": "0.1", "finalizerSeconds": "0.3"}


class AnySequence(RuleBasedStateMachine):
    """One endpoint in the namespace `default`, and all that happens to it."""

    cluster: ClassVar[Cluster]
    operator: ClassVar[Operator]
    role: ClassVar[str]
    """The installed ClusterRole."""
    proxy: ClassVar[FaultProxy]
    namespaced: ClassVar[bool]
    autopilot: ClassVar[bool] = False
    end: ClassVar[float]

    def __init__(self) -> None:
        super().__init__()
        self.chosen: dict[str, dict[str, Any]] = {}
        self.stopped = False
        self.blind_until = 0.0
        self.forbidden: set[str] = set()

    @initialize(
        autopilot=st.booleans(),
        public=st.sampled_from(FIELDS["public"]),
        size=st.sampled_from(FIELDS["size"]),
    )
    def begin(self, autopilot: bool, public: dict[str, Any], size: dict[str, Any]) -> None:
        if autopilot != AnySequence.autopilot:
            self.cluster.autopilot(autopilot)
            AnySequence.autopilot = autopilot
        self._cloud({})
        self.chosen = {"public": public, "size": size}
        self._apply()

    @rule(fields=st.sets(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=3), data=st.data())
    def edit_the_spec(self, fields: set[str], data: st.DataObject) -> None:
        for field in sorted(fields):
            self.chosen[field] = data.draw(st.sampled_from(FIELDS[field]))
        self._apply()

    @rule(edit=st.sampled_from(EDITS))
    def edit_a_child(self, edit: tuple[str, dict[str, Any]]) -> None:
        kind, patch = edit
        for name in self._names(kind)[:1]:
            self._try("patch", kind, name, "--type=merge", "-p", json.dumps(patch))

    @rule()
    def limit_the_cpus_by_hand(self) -> None:
        self._try("set", "resources", f"deploy/{NAME}", "-c=server", "--requests=cpu=1", "--limits=cpu=2")

    @rule()
    def roll_back_by_hand(self) -> None:
        self._try("rollout", "undo", f"deploy/{NAME}")

    @rule()
    def orphan_the_children(self) -> None:
        self.cluster.kubectl("delete", "wep", NAME, "--cascade=orphan")
        self._apply()

    @rule(kind=st.sampled_from(KINDS), cascade=st.sampled_from(["background", "orphan", "foreground"]))
    def delete_a_child(self, kind: str, cascade: str) -> None:
        for name in self._names(kind)[:1]:
            self._try("delete", kind, name, "--wait=false", f"--cascade={cascade}")

    @rule()
    def delete_every_child(self) -> None:
        self._try("delete", ",".join(KINDS), "--all", "--wait=false")

    @rule(wait=st.booleans())
    def delete_the_endpoint_and_make_it_anew(self, wait: bool) -> None:
        self.cluster.kubectl("delete", "wep", NAME, f"--wait={str(wait).lower()}")
        self._apply()

    @rule(cloud=st.sampled_from(CLOUD))
    def something_happens_at_google(self, cloud: dict[str, str]) -> None:
        self._cloud(cloud)

    @rule(faults=st.lists(st.sampled_from(["", *FAULTS]), min_size=1, max_size=8))
    def requests_go_wrong(self, faults: list[str]) -> None:
        self.proxy.fail(*faults)

    @rule()
    def watches_break(self) -> None:
        self.proxy.drop_watches()

    @rule(kind=st.sampled_from(KINDS), edit=st.sampled_from(EDITS))
    def children_are_deleted_and_edited_while_the_watches_are_blind(
        self, kind: str, edit: tuple[str, dict[str, Any]]
    ) -> None:
        with self.proxy.blind():
            self.delete_a_child(kind, "background")
            self.edit_a_child(edit)
        self.blind_until = time.monotonic()

    @rule(kinds=st.sets(st.sampled_from(FORBIDDABLE), min_size=1, max_size=3))
    def kinds_turn_forbidden(self, kinds: set[str]) -> None:
        self.forbidden |= kinds
        self._grant()

    @precondition(lambda self: self.namespaced)
    @rule()
    def the_namespace_turns_forbidden(self) -> None:
        self.forbidden.add("everything")
        self.cluster.kubectl(
            "delete", "rolebinding", "whisper-operator", "-n", "default", "--ignore-not-found"
        )

    @precondition(lambda self: self.forbidden)
    @rule()
    def all_is_allowed_again(self) -> None:
        self.forbidden.clear()
        self._grant()

    @precondition(lambda self: not self.stopped)
    @rule(sign=st.sampled_from([signal.SIGKILL, signal.SIGTERM]))
    def the_operator_ends(self, sign: signal.Signals) -> None:
        self.operator.stop(sign)
        self.stopped = True

    @precondition(lambda self: self.stopped)
    @rule()
    def the_operator_starts(self) -> None:
        self.operator.start()
        self.stopped = False

    @rule(seconds=st.sampled_from([0.2, 1.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        time.sleep(seconds)

    def teardown(self) -> None:
        try:
            if self.chosen:
                self._judge()
        finally:
            self._remove()

    def _judge(self) -> None:
        self.proxy.behave()
        self._cloud({})
        was_forbidden = bool(self.forbidden)
        self.all_is_allowed_again()
        if self.stopped:
            self.the_operator_starts()
        until(self._all_is_read, "all is read again", CEILING)
        if was_forbidden:  # What was refused is tried again every half minute: here it may be at once.
            self._try("annotate", "wep", NAME, f"example.com/seen={time.time_ns()}", "--overwrite")
        if self.chosen.get("device") == BROKEN:
            until(lambda: self._reason() == "UnknownAccelerator", "the broken spec is told of", CEILING)
            self.chosen["device"] = {}
            self._apply()
        # What was deleted unseen is found by the next list at the latest.
        time.sleep(max(0.0, self.blind_until + 1.5 * LIST_AGAIN_SECONDS - time.monotonic()))
        try:
            after = self._settled()
            self._remove()
            self._apply()
            fresh = self._settled()
        except AssertionError as error:
            found = self.cluster.get("whisperendpoints,deployments,replicasets", "-n", "default")["items"]
            ending = {
                "exit status": self.operator.exit_status(),
                "complaints": self.operator.complaints()[-5:],
            }
            raise AssertionError(
                f"{error}: {json.dumps(found)}; the operator: {json.dumps(ending)}"
            ) from None
        note(f"faults that were met: {self.proxy.done}")
        self.proxy.done.clear()
        assert differences(forgetful(after), forgetful(fresh)) == []
        assert own_faults(self.operator) == []

    def _settled(self) -> Snapshot:
        """The cluster once the operator has taken up the spec and writes no more, and nothing moves."""
        last: Snapshot = {}
        since = time.monotonic()

        def look() -> bool:
            nonlocal last, since
            found = {
                "children": declared(self.cluster, "default"),
                "status": said(self.cluster, "default", NAME),
            }
            idle = not any(
                self.operator.metric(f"whisper_operator_workqueue_{name}")
                for name in ("depth", "active", "failing")
            )
            quiet = idle and not [
                event
                for event in writes(self.cluster, start)
                if (now() - event.time).total_seconds() < QUIET_SECONDS
            ]
            if found != last or not quiet or not self._current():
                last, since = found, time.monotonic()
            return time.monotonic() - since > QUIET_SECONDS and not any(
                "way out" in name for name in found["children"]
            )

        start = now()
        until(look, "the endpoint settles", CEILING)
        return last

    def _all_is_read(self) -> bool:
        return self.operator.ask("/readyz")[0] == 200 and "forbidden" not in "".join(
            line for line in self.operator.ask("/metrics")[1].splitlines() if "unreadable{" in line
        )

    def _grant(self) -> None:
        """Give the rights of the installation, but for what is forbidden."""
        role = json.loads(self.role)
        role["metadata"] = {"name": role["metadata"]["name"]}
        role["rules"] = [rule for rule in role["rules"] if not self.forbidden & set(rule["resources"])]
        self.cluster.kubectl("replace", "-f", "-", input=json.dumps(role))
        if self.namespaced and "everything" not in self.forbidden:
            self.cluster.apply({**RIGHTS, "metadata": {**RIGHTS["metadata"], "namespace": "default"}})

    def _current(self) -> bool:
        resource = live(self.cluster, "default", NAME)
        ready = condition(resource, "Ready")
        # The last: until what was edited again and again has stayed for a minute.
        passing = {
            "RollingOut",
            "DeletionPending",
            "NotDeployed",
            "Provisioning",
            "ApplyDelayed",
            "FieldContested",
        }
        pending = ready.get("reason") in passing
        return ready.get("observedGeneration") == resource["metadata"]["generation"] and not pending

    def _reason(self) -> str:
        return str(condition(live(self.cluster, "default", NAME), "Ready").get("reason"))

    def _apply(self) -> None:
        spec: dict[str, Any] = {}
        for choice in self.chosen.values():
            spec |= choice
        until(lambda: self._try_apply(spec), "the spec is applied", 30.0)

    def _try_apply(self, spec: dict[str, Any]) -> bool:
        body = json.dumps(endpoint(NAME, "default", **spec))
        try:
            self.cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=body)
        except DevclusterError as error:
            if "Conflict" in str(error) or "AlreadyExists" in str(error):
                return False
            raise
        return True

    def _remove(self) -> None:
        self.cluster.kubectl("delete", "wep", NAME, "--ignore-not-found")
        until(lambda: not declared(self.cluster, "default"), "no child is left", CEILING)

    def _names(self, kind: str) -> list[str]:
        items = self.cluster.get(kind, "-l", f"whisper-operator.io/endpoint={NAME}")["items"]
        return [item["metadata"]["name"] for item in items]

    def _try(self, *arguments: str) -> None:
        try:
            self.cluster.kubectl(*arguments)
        except DevclusterError as error:
            if "not found" not in str(error):
                note(str(error))

    def _cloud(self, faults: dict[str, str]) -> None:
        settings = {"kind": "ConfigMap", "apiVersion": "v1", "data": SOON | faults}
        self.cluster.apply({**settings, "metadata": {"name": "gke-stand-in", "namespace": "default"}})


def forgetful(snapshot: Snapshot) -> Snapshot:
    """Without what says to the load balancer that a policy is to be taken off: that stays once one was attached."""
    children = json.loads(json.dumps(snapshot["children"]))
    backend = children.get(f"BackendConfig/{NAME}", {}).get("spec", {})
    if backend.get("securityPolicy") == {"name": ""}:
        del backend["securityPolicy"]
    front = children.get(f"FrontendConfig/{NAME}", {}).get("spec", {})
    if front.get("sslPolicy") == "":
        del front["sslPolicy"]
        if not front:
            del children[f"FrontendConfig/{NAME}"]
            ingress = children.get(f"Ingress/{NAME}", {"metadata": {"annotations": {}}})
            ingress["metadata"]["annotations"].pop("networking.gke.io/v1beta1.FrontendConfig", None)
    return {**snapshot, "children": children}


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
        AnySequence.cluster, AnySequence.proxy = cluster, proxy
        if namespaced:
            cluster.apply({**RIGHTS, "metadata": {**RIGHTS["metadata"], "namespace": "default"}})
        AnySequence.role = cluster.kubectl("get", "clusterrole", "whisper-operator", "-o", "json")
        with Operator(cluster, chosen, server=proxy.url) as operator:
            operator.wait_until_working()
            AnySequence.operator = operator
            yield


@pytest.mark.timeout(900 + MINUTES * 60)
def test_any_sequence_ends_as_a_fresh_apply(stage: None) -> None:
    chosen = settings(
        max_examples=5,
        stateful_step_count=12,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    end = time.monotonic() + MINUTES * 60 / 2  # the other half is for the other installation
    turn = 0
    while turn == 0 or time.monotonic() < end:
        turn += 1
        number = time.time_ns() if MINUTES else turn
        run_state_machine_as_test(seed(number)(AnySequence), settings=chosen)
        print(f"{turn * chosen.max_examples} sequences", flush=True)
