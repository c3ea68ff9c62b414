"""What GKE's controllers and Config Connector say in events alone, how it is passed on, and when it is over."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from whisper_operator.kube.kinds import (
    COMPUTE_ADDRESS,
    INGRESS,
    MANAGED_CERTIFICATE,
    SERVICE,
)
from whisper_operator.observed.children import Observed
from whisper_operator.observed.warnings import Warning
from whisper_operator.status.condition import Condition
from whisper_operator.status.conditions import standing_warnings

from tests.unit.telling import SERVING, WROTE, child, ready, said, said_of

SYNC = "Error syncing to GCP: error running load balancer syncing routine: "


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            f"{SYNC}googleapi: Error 404: The resource 'x/networkEndpointGroups/y' was not found, notFound",
            "AddressPending",
        ),
        (f"{SYNC}the given static IP name old doesn't translate to an existing static IP.", "AddressPending"),
        (
            f"{SYNC}the given static IP name ip doesn't translate to an existing static IP.",
            "StaticIPNotFound",
        ),
        (
            f"{SYNC}googleapi: Error 403: Quota 'URL_MAPS' exceeded. Limit: 10.0 globally.",
            "LoadBalancerQuota",
        ),
        (
            f"{SYNC}googleapi: Error 403: Exceeded limit of 15 SSL certificates, limitExceeded",
            "LoadBalancerQuota",
        ),
        (
            f"{SYNC}googleapi: Error 404: The resource 'projects/p/global/securityPolicies/armor' was not found, notFound",
            "PolicyNotFound",
        ),
        ("Error: no FrontendConfig for Ingress exists.", "FrontendConfigMissing"),
        (f"{SYNC}googleapi: Error 503: backend error", "SyncFailed"),
    ],
)
def test_what_the_ingress_controller_says_is_passed_on(words: str, reason: str) -> None:
    warning = said_of(INGRESS, "Sync", words)
    found = ready(
        deployment=SERVING, ingress={}, warnings=(warning,), host="w.example.com", staticIPName="ip",
    )  # fmt: skip
    assert found.reason == reason


NO_SECRET = f'{SYNC}error initializing translator env: secrets "tls" not found'


@pytest.mark.parametrize(
    ("words", "at", "reason"),
    [
        (NO_SECRET, "12:01:01", "TLSSecretMissing"),
        (NO_SECRET, "12:00:00", "Ready"),  # the controller has brought it in line since
        (NO_SECRET.replace('"tls"', '"earlier"'), "12:01:01", "Ready"),
        (f"{SYNC}the given static IP name ip doesn't translate", "12:01:01", "StaticIPNotFound"),
        (f"{SYNC}googleapi: Error 503: backend error", "12:01:01", "SyncFailed"),
        (
            f"{SYNC}googleapi: Error 503: backend error",
            "12:00:31",
            "Ready",
        ),  # it tried again, and that was it
        (f"{SYNC}Error 404: The resource 'x/securityPolicies/y' was not found", "12:01:01", "PolicyNotFound"),
    ],
)
def test_a_load_balancer_that_stays_as_it_was_is_not_what_the_spec_asks_for(
    words: str, at: str, reason: str
) -> None:
    live = {"loadBalancer": {"ingress": [{"ip": "198.18.0.1"}]}}
    found = ready(
        deployment=SERVING, ingress=live, warnings=(said_of(INGRESS, "Sync", words, at),),
        host="w.example.com", staticIPName="ip", ingress_spec={"tls": {"secretName": "tls"}},
    )  # fmt: skip
    assert found.reason == reason
    assert reason == "Ready" or "stays as it was" in found.message or words in found.message


def test_what_a_controller_says_no_more_is_over() -> None:
    """It tries again after as long as it has been failing, and never says that all is well."""
    live = {"loadBalancer": {"ingress": [{"ip": "198.18.0.1"}]}}
    complaint = said_of(INGRESS, "Sync", f"{SYNC}googleapi: Error 503: backend error", "12:01:30")

    def at(minute: int) -> tuple[str, float | None]:
        now = datetime(2026, 1, 31, 12, minute, tzinfo=UTC)
        seen = Observed({(INGRESS, "w"): child(INGRESS, live, controller_wrote=WROTE)}, warnings=(complaint,))
        found = ready(
            deployment=SERVING, ingress=live, warnings=(complaint,), at=now, host="w.example.com",
            ingress_spec={"tls": {"mode": "none"}},
        )  # fmt: skip
        return found.reason, standing_warnings.next_look(seen, now)

    assert at(2) == ("SyncFailed", 300.0)
    assert at(6) == ("SyncFailed", 60.0)
    assert at(7) == ("Ready", None)


def test_a_secret_that_somebody_added_to_the_ingress_is_told_of_as_that() -> None:
    """Its controller stops for it, whoever named it."""
    live = {"loadBalancer": {"ingress": [{"ip": "198.18.0.1"}]}}
    found = ready(
        deployment=SERVING, ingress=live, warnings=(said_of(INGRESS, "Sync", NO_SECRET),),
        host="w.example.com", ingress_spec={"tls": {"mode": "none"}},
    )  # fmt: skip
    assert (found.reason, found.needs_action) == ("TLSSecretMissing", True)
    assert "which spec.tls names in the Ingress itself, by somebody's edit (kubectl edit ingress -n n w)" in (
        found.message
    )


def test_what_was_said_last_comes_before_what_was_said_first() -> None:
    quota = said_of(INGRESS, "Sync", f"{SYNC}googleapi: Error 403: Quota 'URL_MAPS' exceeded.", "12:01:00")
    address = said_of(INGRESS, "Sync", f"{SYNC}the given static IP name ip doesn't translate", "12:01:30")
    found = ready(
        deployment=SERVING, ingress={}, warnings=(quota, address), host="w.example.com", staticIPName="ip",
    )  # fmt: skip
    assert found.reason == "StaticIPNotFound"


TOO_MANY = "googleapi: Error 403: QUOTA_EXCEEDED - Quota 'SSL_CERTIFICATES' exceeded. Limit: 10.0 globally."


@pytest.mark.parametrize(
    ("reason", "words", "needs_action"),
    [
        ("TooManyCertificates", TOO_MANY, True),
        ("BackendError", "googleapi: Error 500: Internal error encountered.", False),
    ],
)
def test_why_google_makes_no_certificate_is_told_though_only_events_say_it(
    reason: str, words: str, needs_action: bool
) -> None:
    made = child(MANAGED_CERTIFICATE, {}, "w-1", spec={"domains": ["w.example.com"]})
    stops = (
        f"{SYNC}googleapi: Error 404: The resource 'projects/p/global/sslCertificates/mcrt-1' was not found"
    )
    shared = {"ingress.gcp.kubernetes.io/pre-shared-cert": "mcrt-1"}
    new = child(INGRESS, {}, ingress_class="gce", annotations=shared)
    warnings = (said_of(MANAGED_CERTIFICATE, reason, words), said_of(INGRESS, "Sync", stops))

    def told(kind: str, **more: Any) -> Condition:
        return ready(deployment=SERVING, others=(made, new), kind=kind, host="w.example.com", **more)

    found = told("CertificateReady", warnings=warnings)
    assert (found.status, found.reason, found.needs_action) == ("False", reason, needs_action)
    assert words in found.message
    assert "ManagedCertificate w-1 for w.example.com" in found.message
    assert told("AddressAssigned", warnings=warnings).reason == "CertificatePending"
    if needs_action:
        assert told("Ready", warnings=warnings).reason == reason
    # The events expire; nothing else has changed.
    before = {"conditions": [{**said(found)["conditions"][0], "type": "CertificateReady"}]}
    assert told("CertificateReady", before=before) == found
    # Google has made it since.
    made = replace(
        made, status={"certificateStatus": "Provisioning"}, controller_wrote="2026-01-31T12:01:40Z"
    )
    assert told("CertificateReady", warnings=warnings, before=before).reason == "Provisioning"


@pytest.mark.parametrize(
    ("reason", "since", "spec", "told"),
    [
        ("SyncNetworkEndpointGroupFailed", "12:01:00", {}, True),
        ("AttachFailed", "12:01:00", {"ingress_spec": {"class": "gce-internal"}}, True),
        ("SyncNetworkEndpointGroupFailed", "12:01:25", {}, False),  # on its way
        ("LabelsExceededLimit", "12:01:00", {}, False),
        ("AttachFailed", "12:01:00", {"ingress_spec": {"class": "traefik"}}, False),
    ],
)
def test_pods_that_do_not_get_behind_the_load_balancer_are_told_of(
    reason: str, since: str, spec: dict[str, Any], told: bool
) -> None:
    live = {"loadBalancer": {"ingress": [{"ip": "198.18.0.1"}]}}
    active = child(
        MANAGED_CERTIFICATE, {"certificateStatus": "Active"}, "w-1", spec={"domains": ["w.example.com"]}
    )
    failed = said_of(SERVICE, reason, 'Failed to sync NEG "g" (will retry): no', "12:01:30", since)
    found = ready(
        deployment=SERVING, ingress=live, others=(active, child(SERVICE, {})), warnings=(failed,),
        host="w.example.com", **spec,
    )  # fmt: skip
    assert found.reason == ("EndpointGroupFailed" if told else "Ready")
    assert ("Failed to sync NEG" in found.message) is told


def test_config_connector_says_why_there_is_no_address() -> None:
    failed = {
        "type": "Ready",
        "status": "False",
        "reason": "UpdateFailed",
        "message": "Update call failed: 403",
    }
    complaint = said_of(INGRESS, "Sync", f"{SYNC}the given static IP name ip doesn't translate")
    for address, more in (
        (child(COMPUTE_ADDRESS, {"conditions": [failed]}, "ip"), ()),
        (
            child(COMPUTE_ADDRESS, {}, "ip"),
            (Warning(COMPUTE_ADDRESS.plural, "UpdateFailed", "Update call failed: 403"),),
        ),
    ):
        found = ready(
            deployment=SERVING, ingress={}, others=(address,), warnings=(complaint, *more), kind="AddressAssigned",
            host="w.example.com", staticIPName="ip", ingress_spec={"reserveStaticIP": True},
        )  # fmt: skip
        assert (found.reason, found.needs_action) == ("StaticIPNotFound", False)
        assert "Config Connector says: Update call failed: 403" in found.message


@pytest.mark.parametrize("reserved", [True, False])
def test_an_address_that_is_being_reserved_is_waited_for_though_nobody_complains_any_more(
    reserved: bool,
) -> None:
    spec: dict[str, Any] = {"host": "w.example.com", "staticIPName": "ip", "kind": "AddressAssigned"}
    if reserved:
        spec["ingress_spec"] = {"reserveStaticIP": True}
    complaint = said_of(INGRESS, "Sync", f"{SYNC}the given static IP name ip doesn't translate")
    found = ready(deployment=SERVING, ingress={}, warnings=(complaint,), **spec)
    assert found.needs_action is not reserved
    before = {"conditions": [{**said(found)["conditions"][0], "type": "AddressAssigned"}]}
    assert ready(deployment=SERVING, ingress={}, before=before, **spec) == found
