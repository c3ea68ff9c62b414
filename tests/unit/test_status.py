"""Status and conditions: every state says what it is and what to do next, and nothing is written twice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from whisper_operator.apply.outcome import Fight, Outcome
from whisper_operator.kube.kinds import (
    AUTOSCALER,
    COMPUTE_ADDRESS,
    DEPLOYMENT,
    INGRESS,
    MANAGED_CERTIFICATE,
    POD,
    SERVICE,
)
from whisper_operator.observed.children import Observed
from whisper_operator.observed.pods import Pod, Trouble
from whisper_operator.observed.warnings import Warning
from whisper_operator.spec.endpoint import SpecError
from whisper_operator.status import status
from whisper_operator.status.condition import STOPS_OTHERS, Previous

from tests.unit.reporting import (
    ACTIVE,
    HOST,
    INGRESS_UP,
    NAME_TAKEN,
    NOT_VISIBLE,
    SERVING,
    apply,
    child,
    condition,
    observed,
    told,
)

ROOT = Path(__file__).resolve().parents[2]


def test_a_served_public_endpoint_is_ready_and_spells_out_its_dns_record() -> None:
    report = told(observed(SERVING, INGRESS_UP, ACTIVE), host=HOST)
    assert {each["type"]: each["status"] for each in report.patch["conditions"]} == {
        "Available": "True",
        "AddressAssigned": "True",
        "CertificateReady": "True",
        "Ready": "True",
    }
    assert report.patch["url"] == "https://w.example.com"
    assert report.patch["internalURL"] == "http://w.n.svc:8000"
    assert report.patch["dns"] == [{"name": HOST, "type": "A", "value": "203.0.113.7"}]
    assert report.patch["certificates"] == [
        {"host": HOST, "name": "w-1", "status": "Active", "domainStatus": "Active"}
    ]
    assert report.patch["observedGeneration"] == 3
    assert all(each["observedGeneration"] == 3 for each in report.patch["conditions"])
    assert report.patch["effective"]["model"] == "large-v3"


def test_an_internal_endpoint_has_no_address_and_no_certificate() -> None:
    report = told(observed(SERVING))
    assert {each["type"] for each in report.patch["conditions"]} == {"Available", "Ready"}
    assert condition(report, "Ready")["status"] == "True"
    assert "url" not in report.patch


def test_without_tls_the_url_says_so() -> None:
    report = told(observed(SERVING, INGRESS_UP), host=HOST, ingress={"tls": {"mode": "none"}})
    assert report.patch["url"] == "http://w.example.com"
    assert condition(report, "CertificateReady") == {}
    assert condition(report, "Ready")["status"] == "True"


def test_a_redirect_that_was_asked_for_is_part_of_being_ready() -> None:
    tls: dict[str, Any] = {"httpsRedirect": True, "tls": {"secretName": "cert"}}
    report = told(observed(SERVING, INGRESS_UP), host=HOST, ingress=tls)
    assert condition(report, "Ready")["reason"] == "RedirectPending"
    seen = child(INGRESS, INGRESS_UP)
    served = replace(seen, annotations={"ingress.kubernetes.io/ssl-cert": "k8s2-cr-1"})
    both = {**observed(SERVING).children, (INGRESS, "w"): served}
    assert condition(told(Observed(both), host=HOST, ingress=tls), "Ready")["status"] == "True"


def test_replicas_that_an_autoscaler_asks_for_and_does_not_get_are_told() -> None:
    growing = {**SERVING, "replicas": 5, "updatedReplicas": 5, "availableReplicas": 2}
    scaled: dict[str, Any] = {"autoscaling": {"min": 2, "max": 9}}
    active = {"conditions": [{"type": "ScalingActive", "status": "True"}]}
    children = {**observed(growing, replicas=5).children, (AUTOSCALER, "w"): child(AUTOSCALER, active)}
    waiting = Pod("w-1", "p", "rs", False, False, False, Trouble("Unschedulable", words="0/3 nodes"))
    refused = Warning("p", "FailedScaleUp", "GCE quota exceeded", "2026-01-02T03:04:00Z")
    for warnings, reason in (((), "Unschedulable"), ((refused,), "NoGPUQuota")):
        report = told(Observed(children, pods=(waiting,), warnings=warnings), **scaled)
        ready = condition(report, "Ready")
        assert (ready["status"], ready["reason"]) == ("False", reason)
        assert ready["message"].startswith("The autoscaler asks for 5 replicas, and 2 serve. Pod w-1 ")
        # The least serves, and the load may fall again.
        assert condition(report, "Stalled") == {}
        assert condition(report, "Available")["status"] == "True"
    fewer = replace(children[DEPLOYMENT, "w"], status={**growing, "availableReplicas": 1})
    report = told(
        Observed({**children, (DEPLOYMENT, "w"): fewer}, pods=(waiting,), warnings=(refused,)), **scaled
    )
    assert condition(report, "Stalled")["reason"] == "NoGPUQuota"


def test_an_autoscaler_that_sees_nothing_is_a_note_of_an_endpoint_that_serves() -> None:
    blind = {"conditions": [{"type": "ScalingActive", "status": "False", "message": "no custom metrics API"}]}
    seen = {**observed(SERVING).children, (AUTOSCALER, "w"): child(AUTOSCALER, blind)}
    report = told(Observed(seen), autoscaling={"max": 3})
    assert condition(report, "AutoscalingReady")["reason"] == "NoMetricsAPI"
    assert condition(report, "Stalled") == {}
    ready = condition(report, "Ready")
    assert (ready["status"], ready["reason"]) == ("True", "Ready")
    assert "does not follow the load: see AutoscalingReady" in ready["message"]
    assert "all it asks for" not in ready["message"]


def test_replicas_that_an_autoscaler_asks_for_beyond_the_least_are_awaited_by_nobody() -> None:
    growing = {**SERVING, "replicas": 5, "updatedReplicas": 5, "availableReplicas": 2}
    scaled: dict[str, Any] = {"autoscaling": {"min": 2, "max": 9}}
    active = {"conditions": [{"type": "ScalingActive", "status": "True"}]}
    seen = {**observed(growing, replicas=5).children, (AUTOSCALER, "w"): child(AUTOSCALER, active)}
    assert condition(told(Observed(seen), **scaled), "Ready")["status"] == "True"
    rolling = observed({**growing, "updatedReplicas": 4}, replicas=5).children
    assert condition(told(Observed(rolling), **scaled), "Ready")["reason"] == "RollingOut"


def test_another_number_of_replicas_is_waited_for_though_all_that_there_are_serve() -> None:
    """The Deployment gets it only when its controller has taken up another strategy."""
    three = {**SERVING, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}
    ready = condition(told(observed(three, replicas=3), replicas=2, rollout="Recreate"), "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "RollingOut")
    assert "gets 2 next" in ready["message"]


def test_replicas_that_are_not_asked_for_any_more_are_waited_for_until_they_are_gone() -> None:
    """A Deployment's controller has taken up a smaller number before the pods beyond it are stopped."""
    three = {**SERVING, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}
    ready = condition(told(observed(three, replicas=2), replicas=2), "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "RollingOut")
    assert ready["message"].startswith("3 replicas run still, where 2 are asked for")
    active = {"conditions": [{"type": "ScalingActive", "status": "True"}]}
    scaled = {**observed(three, replicas=2).children, (AUTOSCALER, "w"): child(AUTOSCALER, active)}
    ready = condition(told(Observed(scaled), autoscaling={"min": 1, "max": 9}), "Ready")
    assert ready["status"] == "True"  # fewer as the load falls is nothing to wait for


def test_what_holds_up_a_change_is_told_while_the_old_pods_serve() -> None:
    rolling = {**SERVING, "replicas": 2}
    waiting = Pod("w-2", "p", "rs", False, False, False, Trouble("Unschedulable", words="0/3 nodes"))
    old = Pod("w-1", "o", "rs", True, False, False, None)
    seen = Observed(observed(rolling).children, pods=(waiting,), old_pods=(old,))
    assert condition(told(seen), "Ready")["reason"] == "Unschedulable"


def test_what_may_not_be_read_any_more_is_told_where_it_matters() -> None:
    words = "deployments.apps is forbidden"
    seen = replace(observed(SERVING), unreadable={DEPLOYMENT: words, COMPUTE_ADDRESS: "no"})
    report = told(seen)
    ready = condition(report, "Ready")
    assert (ready["reason"], condition(report, "Stalled")["reason"]) == ("AccessDenied", "AccessDenied")
    assert "may not read deployments.apps in namespace n any more" in ready["message"]
    assert "verbs get, list and watch" in ready["message"]
    assert words in ready["message"]
    # Of a kind of which the endpoint has nothing, it is no concern; what only tells of pods is a note.
    ready = condition(
        told(replace(observed(SERVING), unreadable={COMPUTE_ADDRESS: "no", POD: "no"})), "Ready"
    )
    assert ready["status"] == "True"
    assert "may not read pods there" in ready["message"]


def test_what_a_fault_does_to_others_is_no_part_of_what_is_remembered_of_it() -> None:
    """Or it would be added to itself, and what is remembered would never be the same as what is seen."""
    said = {
        "type": "Ready",
        "status": "False",
        "reason": "Unschedulable",
        "message": f"Pod w-1 waits.{STOPS_OTHERS}",
    }
    before = Previous({"conditions": [{**said, "observedGeneration": 1}]}, 1)
    assert before.message("Ready", "Unschedulable") == ("Unschedulable", "Pod w-1 waits.")


REFUSAL = Outcome(refusals=(("Deployment w", "exceeded quota: gpus"),))
DELAYED = Outcome(delays=(("Service w", "PATCH: 409"),), delayed_for=31.0)
FOUGHT = Outcome(fights=(Fight("Deployment w", "spec.replicas", "kube-controller-manager (scale)"),))
STUCK = {
    **SERVING,
    "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}],
}
QUOTA = {
    "observedGeneration": 1,
    "conditions": [
        {"type": "ReplicaFailure", "status": "True", "message": "pods are forbidden: exceeded quota"}
    ],
}
FAILED = {"certificateStatus": "ProvisioningFailedPermanently"}


@pytest.mark.parametrize(
    ("seen", "outcome", "reason", "words", "stalled"),
    [
        (observed(), None, "NotDeployed", "no Deployment yet", False),
        (observed({"observedGeneration": 0}), None, "RollingOut", "not taken up", False),
        (observed({"observedGeneration": 1}), None, "RollingOut", "0 of 1 replicas", False),
        (observed(QUOTA), None, "QuotaExceeded", "exceeded quota", True),
        (
            observed({**SERVING, "replicas": 2}),
            None,
            "RollingOut",
            "1 of 1 replicas are of the current spec",
            False,
        ),
        (observed(STUCK), None, "RolloutStuck", "rollout: Recreate", True),
        (observed(SERVING), None, "AddressPending", "a few minutes", False),
        (observed(SERVING, INGRESS_UP), None, "Provisioning", "status.dns", False),
        (observed(SERVING, INGRESS_UP, {}), None, "Provisioning", HOST, False),
        (
            observed(SERVING, INGRESS_UP, NOT_VISIBLE),
            None,
            "FailedNotVisible",
            "create the DNS record",
            False,
        ),
        (observed(SERVING, INGRESS_UP, FAILED), None, "ProvisioningFailedPermanently", "host name", True),
        (
            observed(SERVING, INGRESS_UP, ACTIVE),
            NAME_TAKEN,
            "NameConflict",
            "ingresses.networking.k8s.io w",
            True,
        ),
        (observed(), Outcome(missing_kinds=(MANAGED_CERTIFICATE,)), "KindNotInstalled", "GKE has what", True),
        (observed(), REFUSAL, "ApplyRefused", "Deployment w: exceeded quota: gpus", True),
        (observed(), Outcome(waiting=("w",)), "DeletionPending", "deleted: w", False),
        (observed(SERVING, INGRESS_UP, ACTIVE), DELAYED, "ApplyDelayed", "Service w: PATCH: 409", False),
        (
            observed(SERVING, INGRESS_UP, ACTIVE),
            FOUGHT,
            "FieldContested",
            "spec.replicas of Deployment w is set by kube-controller-manager (scale). If it is a HorizontalPodAutoscaler",
            True,
        ),
        (
            observed(SERVING, INGRESS_UP, ACTIVE),
            Outcome(fights=(Fight("Service w", "spec.ports", ""),)),
            "FieldContested",
            "spec.ports of Service w is taken away. Have that leave it alone",
            True,
        ),
        (
            observed(SERVING, INGRESS_UP, ACTIVE),
            Outcome(fights=(Fight("Service w", "", ""),)),
            "FieldContested",
            "later: Service w is deleted. Have that leave it alone",
            True,
        ),
    ],
)
def test_what_is_wrong_is_said_first_and_with_what_to_do(
    seen: Observed, outcome: Outcome | None, reason: str, words: str, stalled: bool
) -> None:
    report = told(seen, outcome, host=HOST)
    ready = condition(report, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", reason)
    assert words in ready["message"]
    assert (condition(report, "Stalled").get("status") == "True") is stalled


def test_a_frozen_endpoint_says_why_and_keeps_what_it_said_of_what_runs() -> None:
    before = {
        "url": "https://w.example.com",
        "effective": {"model": "tiny"},
        "internalURL": "http://w.n.svc:8000",
    }
    error = SpecError("NotImplemented", "This version does not implement spec.auth yet")
    report = told(observed(SERVING, INGRESS_UP, ACTIVE), endpoint=error, before=before)
    assert condition(report, "Ready")["reason"] == "NotImplemented"
    assert condition(report, "Stalled")["status"] == "True"
    assert condition(report, "Available")["status"] == "True"
    assert not set(before) & set(report.patch)


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(refusals=(("suspension of Deployment w", "scale is forbidden"),)),
        Outcome(delays=(("suspension of Deployment w", "scale is forbidden"),), delayed_for=31.0),
    ],
)
def test_a_frozen_endpoint_that_can_not_be_suspended_says_so(outcome: Outcome) -> None:
    """What it runs on is paid for until somebody stops it."""
    error = SpecError("UnknownAccelerator", "spec.accelerator.type abacus is not known.")
    report = told(observed(SERVING), outcome, endpoint=error, suspend=True)
    for kind in ("Ready", "Stalled"):
        found = condition(report, kind)
        assert found["reason"] == "UnknownAccelerator"
        assert found["message"] == (
            "spec.accelerator.type abacus is not known. And suspension of Deployment w failed, and is tried again: "
            "scale is forbidden"
        )


def test_a_frozen_endpoint_that_is_started_each_time_says_so() -> None:
    error = SpecError("UnknownAccelerator", "spec.accelerator.type abacus is not known.")
    report = told(observed(SERVING), FOUGHT, endpoint=error, suspend=True)
    found = condition(report, "Ready")
    assert found["reason"] == "UnknownAccelerator"
    assert found["message"].startswith(
        "spec.accelerator.type abacus is not known. Somebody else changes again and again"
    )
    assert "spec.replicas of Deployment w is set by kube-controller-manager (scale)" in found["message"]


def test_without_a_service_nothing_is_available() -> None:
    """While it is held back, as somebody deletes it each time."""
    seen = observed(SERVING)
    seen = replace(
        seen, children={at: each for at, each in seen.children.items() if each.kind is not SERVICE}
    )
    found = condition(told(seen), "Available")
    assert (found["status"], found["reason"]) == ("False", "NotDeployed")
    assert found["message"] == "There is no Service: 1 of 1 replicas are ready, and no request reaches them."
    # Of what can't be read, nobody knows whether it is there.
    assert condition(told(replace(seen, unreadable={SERVICE: "no"})), "Available")["status"] == "True"


def test_a_refusal_of_any_length_fits_into_the_status() -> None:
    crd = yaml.safe_load((ROOT / "crds" / "whisperendpoints.yaml").read_text())
    (version,) = crd["spec"]["versions"]
    at = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["conditions"]
    most = at["items"]["properties"]["message"]["maxLength"]
    endless = Outcome(refusals=(("Deployment w", "no " * 20_000),))
    report = told(observed(), endless)
    assert len(condition(report, "Ready")["message"]) == most
    assert max(len(each["message"]) for each in report.patch["conditions"]) == most
    again = told(observed(), endless, before=dict(report.patch))
    assert again == status.Report({}, ())


def test_suspended_is_what_was_asked_for() -> None:
    """Address and certificate are waited for once somebody is to be served again."""
    report = told(observed({"observedGeneration": 1}, replicas=0), suspend=True, host=HOST)
    ready = condition(report, "Ready")
    assert (ready["status"], ready["reason"]) == ("True", "Suspended")
    assert condition(report, "Available")["reason"] == "Suspended"
    assert condition(report, "AddressAssigned")["status"] == "False"
    assert condition(report, "Stalled") == {}


def test_suspending_takes_until_nothing_runs_and_is_an_event() -> None:
    was = told(observed(SERVING))
    before = dict(was.patch)
    down = told(observed(SERVING), suspend=True, before=before)
    assert condition(down, "Ready")["reason"] == "RollingOut"
    report = told(observed({"observedGeneration": 1}, replicas=0), suspend=True, before=before)
    assert ("Normal", "Suspended") in [(each["type"], each["reason"]) for each in report.events]
    again = told(observed(SERVING), before=apply(before, report.patch))
    assert ("Normal", "Ready") in [(each["type"], each["reason"]) for each in again.events]


def test_what_can_not_be_written_is_told_of_a_suspended_endpoint_too() -> None:
    report = told(observed({"observedGeneration": 1}, replicas=0), REFUSAL, suspend=True)
    assert condition(report, "Ready")["reason"] == "ApplyRefused"


def test_a_certificate_on_its_way_out_does_not_count() -> None:
    old = replace(child(MANAGED_CERTIFICATE, {}, "w-old", domains=["old.example.com"]), deleting=True)
    seen = observed(SERVING, INGRESS_UP, ACTIVE)
    seen = Observed({**seen.children, (old.kind, old.name): old})
    assert condition(told(seen, host=HOST), "CertificateReady")["status"] == "True"


def test_a_host_without_a_certificate_is_not_certified() -> None:
    report = told(observed(SERVING, INGRESS_UP, ACTIVE), host=HOST, additionalHosts=["b.example.com"])
    assert condition(report, "CertificateReady")["status"] == "False"
    assert "b.example.com" in condition(report, "CertificateReady")["message"]


def test_an_emptied_certificate_of_a_frozen_endpoint_is_no_crash() -> None:
    emptied = child(MANAGED_CERTIFICATE, {}, "w-1", domains=[])
    seen = Observed({(emptied.kind, emptied.name): emptied})
    report = told(seen, endpoint=SpecError("NotImplemented", "later"))
    assert report.patch["certificates"] == [{"host": "w-1", "name": "w-1"}]


def test_two_certificates_of_one_host_are_told_as_one() -> None:
    """By somebody's edit of a frozen endpoint's; the status is a list by host, which holds each once."""
    two = [
        child(MANAGED_CERTIFICATE, live, name, domains=[HOST])
        for name, live in (("w-2", {}), ("w-1", ACTIVE))
    ]
    seen = Observed({(each.kind, each.name): each for each in two})
    for endpoint in (None, SpecError("NotImplemented", "later")):
        report = told(seen, endpoint=endpoint, host=HOST)
        assert report.patch["certificates"] == [
            {"host": HOST, "name": "w-1", "status": "Active", "domainStatus": "Active"}
        ]
