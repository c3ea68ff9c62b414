"""Random sequences of what happens to one endpoint, and how the end is judged: as equal to a fresh apply of the last spec."""

import functools
import json
import os
import time
from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from devcluster import Cluster, DevclusterError
from devcluster.faults import FaultProxy
from devcluster.installation import Operator
from tests.cluster.declared import Snapshot, declared, differences, said
from tests.cluster.drawn import BROKEN, CLOUD, EDITS, FIELDS, KINDS, NAME, SOON
from tests.cluster.support import condition, endpoint, live, now, own_faults, until, writes

MINUTES = float(os.environ.get("WHISPER_PROPERTY_MINUTES", "0"))
"""For how long to search, with new sequences each time; 0: the same few every time."""
QUIET_SECONDS = 3.0
CEILING = 180.0
STANDS = 340.0
"""For how long a complaint of GKE's controller is believed, if nothing more is said."""
LIST_AGAIN_SECONDS = 5
CHANCE = st.integers(0, 2**32)
"""0 is to be refused: hypothesis begins each search with all that is simplest, the same step again and again."""


def step(**drawn: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A rule that is written down: what depends on time does not fail the same way again when it is tried once more."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def told(machine: "Transitions", *given: Any, **named: Any) -> None:
            words = [*map(repr, given), *(f"{name}={each!r}" for name, each in named.items())]
            machine.tell(f"{function.__name__}({', '.join(words)})")
            try:
                function(machine, *given, **named)
            except Exception as error:
                raise machine.failure(error) from error

        made: Callable[..., None] = rule(**drawn)(told)  # type: ignore[call-overload]
        return made

    return decorate


class Transitions(RuleBasedStateMachine):
    """One endpoint in the namespace `default`, and all that happens to it under whatever operators."""

    cluster: ClassVar[Cluster]
    operators: ClassVar[dict[str, Operator]]
    proxies: ClassVar[dict[str, FaultProxy]]
    """By the name of the operator that is behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.chosen: dict[str, dict[str, Any]] = {}
        self.stopped: set[str] = set()
        """Operators that do not run."""
        self.blind_until = 0.0
        self.began = now()
        self.story: list[str] = []

    def tell(self, what: str) -> None:
        self.story.append(f"{now():%H:%M:%S.%f} {what}")

    def failure(self, error: Exception) -> Exception:
        """With what led to it, and what the operators said."""
        if str(error).startswith("After these steps"):
            return error
        complaints = [
            f"{name} (exit status {operator.exit_status()}): {json.dumps(operator.complaints()[-8:])}"
            for name, operator in self.operators.items()
        ]
        text = "\n".join(["After these steps", *self.story, "the operators complained", *complaints])
        print(f"{text}\n{error!r}", flush=True)
        return AssertionError(f"{text}\n{error!r}")

    @step(fields=st.sets(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=3), data=st.data())
    def edit_the_spec(self, fields: set[str], data: st.DataObject) -> None:
        for field in sorted(fields):
            self.chosen[field] = data.draw(st.sampled_from(FIELDS[field]))
        self._apply()

    @step(edit=st.sampled_from(EDITS))
    def edit_a_child(self, edit: tuple[str, dict[str, Any]]) -> None:
        kind, patch = edit
        for name in self._names(kind)[:1]:
            self._try("patch", kind, name, "--type=merge", "-p", json.dumps(patch))

    @step()
    def limit_the_cpus_by_hand(self) -> None:
        self._try("set", "resources", f"deploy/{NAME}", "-c=server", "--requests=cpu=1", "--limits=cpu=2")

    @step()
    def roll_back_by_hand(self) -> None:
        self._try("rollout", "undo", f"deploy/{NAME}")

    @step()
    def orphan_the_children(self) -> None:
        self.cluster.kubectl("delete", "wep", NAME, "--cascade=orphan")
        self._apply()

    @step(kind=st.sampled_from(KINDS), cascade=st.sampled_from(["background", "orphan", "foreground"]))
    def delete_a_child(self, kind: str, cascade: str) -> None:
        for name in self._names(kind)[:1]:
            self._try("delete", kind, name, "--wait=false", f"--cascade={cascade}")

    @step()
    def delete_every_child(self) -> None:
        self._try("delete", ",".join(KINDS), "--all", "--wait=false")

    @step(wait=st.booleans())
    def delete_the_endpoint_and_make_it_anew(self, wait: bool) -> None:
        self.cluster.kubectl("delete", "wep", NAME, f"--wait={str(wait).lower()}")
        self._apply()

    @step(cloud=st.sampled_from(CLOUD))
    def something_happens_at_google(self, cloud: dict[str, str]) -> None:
        self._cloud(cloud)

    @step(seconds=st.sampled_from([0.2, 1.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        time.sleep(seconds)

    def heal(self) -> None:
        """Undo all that would keep the operators from their work, and wait until they are at it."""
        raise NotImplementedError

    def witness(self) -> list[str]:
        """What else was wrong, once the endpoint has settled."""
        return []

    def teardown(self) -> None:
        try:
            if self.chosen:
                self._judge()
        except Exception as error:
            raise self.failure(error) from error
        finally:
            self._remove()

    def _judge(self) -> None:
        self.tell("all is mended")
        self._cloud({})
        self.heal()
        if self.chosen.get("device") == BROKEN:
            until(lambda: self._reason() == "UnknownAccelerator", "the broken spec is told of", CEILING)
            self.chosen["device"] = {}
            self._apply()
        # What was deleted unseen is found by the next list at the latest.
        time.sleep(max(0.0, self.blind_until + 1.5 * LIST_AGAIN_SECONDS - time.monotonic()))
        try:
            after = self._settled()
            self.tell("made anew")
            self._remove()
            self._apply()
            fresh = self._settled()
        except AssertionError as error:
            found = self.cluster.get("whisperendpoints,deployments,replicasets", "-n", "default")["items"]
            raise AssertionError(f"{error}: {json.dumps(found)}") from None
        wrong = differences(forgetful(after), forgetful(fresh))
        for name, operator in self.operators.items():
            self.tell(f"faults that {name} met: {self.proxies[name].done}")
            self.proxies[name].done.clear()
            wrong += [f"a fault of {name}'s own: {line}" for line in own_faults(operator)]
        wrong += self.witness()
        assert not wrong, "\n".join(wrong)

    def all_is_read(self) -> bool:
        return all(
            operator.ask("/readyz")[0] == 200
            and "forbidden"
            not in "".join(line for line in operator.ask("/metrics")[1].splitlines() if "unreadable{" in line)
            for operator in self.operators.values()
        )

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
                operator.metric(f"whisper_operator_workqueue_{name}")
                for operator in self.operators.values()
                for name in ("depth", "active", "failing")
            )
            quiet = idle and not [
                event
                for event in writes(self.cluster, start)
                if (now() - event.time).total_seconds() < QUIET_SECONDS
            ]
            upgraded = not any(
                operator.metric("whisper_operator_upgrades", state=state)
                for operator in self.operators.values()
                for state in ("waiting", "rolling")
            )
            if found != last or not quiet or not upgraded or not self._current():
                last, since = found, time.monotonic()
            return time.monotonic() - since > QUIET_SECONDS and not any(
                "way out" in name for name in found["children"]
            )

        start = now()
        until(look, "the endpoint settles", CEILING + STANDS)
        return last

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
            "UpgradePending",
            "PolicyViolation",
            "CeilingReached",
            # GKE's controller complains of what was gone for a moment, and never says that all is well again: STANDS.
            "SyncFailed",
        }
        pending = ready.get("reason") in passing
        return ready.get("observedGeneration") == resource["metadata"]["generation"] and not pending

    def _reason(self) -> str:
        return str(condition(live(self.cluster, "default", NAME), "Ready").get("reason"))

    def _apply(self) -> None:
        spec: dict[str, Any] = {}
        for choice in self.chosen.values():
            spec |= choice
        self.tell(f"apply {spec}")
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
                self.tell(str(error))

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


def search(machine: type[Transitions], *, examples: int, steps: int, minutes: float) -> None:
    """A turn of so many sequences, and more of them for so long."""
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    end = time.monotonic() + minutes * 60
    turn = 0
    while turn == 0 or time.monotonic() < end:
        turn += 1
        number = time.time_ns() if MINUTES else turn
        run_state_machine_as_test(seed(number)(machine), settings=chosen)
        print(f"{turn * examples} sequences", flush=True)
