"""What doctor says of an endpoint's hosts: DNS, and certificates."""

from typing import Any

import pytest
from whisper_operator.doctor.facts import Answer, Facts
from whisper_operator.kube.kinds import (
    MANAGED_CERTIFICATE,
)

from tests.unit.diagnosing import ADDRESS, HOST, facts, found, judged, public, served
from tests.unit.making import Body


def dns(answer: Answer, given: Facts | None = None) -> Any:
    (finding,) = judged(given or facts(public(), objects=served()), {HOST: answer}).findings
    return finding


def test_a_host_without_a_record() -> None:
    finding = dns(Answer())
    assert (finding.severity, finding.code) == ("error", "DNSRecordMissing")
    assert finding.problem == (
        f"DNS has no record for {HOST}, and the load balancer of WhisperEndpoint asr/whisper has {ADDRESS}: nobody gets there by "
        "that name."
    )
    assert finding.command == (
        f"gcloud dns record-sets create {HOST}. --zone=ZONE --type=A --ttl=300 --rrdatas={ADDRESS}"
    )


def test_a_host_that_leads_elsewhere() -> None:
    finding = dns(Answer(("198.51.100.1",)))
    assert (finding.severity, finding.code) == ("error", "DNSPointsElsewhere")
    assert f"{HOST} resolves to 198.51.100.1, and the load balancer of" in finding.problem
    assert finding.problem.endswith("requests go elsewhere.")
    assert finding.command.startswith("gcloud dns record-sets update")
    assert "some of the requests go elsewhere" in dns(Answer((ADDRESS, "198.51.100.1"))).problem


def test_a_host_whose_ipv6_leads_elsewhere() -> None:
    finding = dns(Answer((ADDRESS, "2001:db8::1")))
    assert (finding.code, "to 2001:db8::1 for IPv6" in finding.problem) == ("DNSIPv6Elsewhere", True)
    assert finding.command == f"gcloud dns record-sets delete {HOST}. --zone=ZONE --type=AAAA"
    # A network without IPv4 makes up an address for each of IPv4.
    made_up = {HOST: Answer(("64:ff9b::cb00:710a", ADDRESS))}
    assert found(facts(public(), objects=served()), made_up) == {}


def test_a_resolver_that_does_not_answer_proves_nothing() -> None:
    finding = dns(Answer(failure="Temporary failure in name resolution"))
    assert (finding.severity, finding.code) == ("not-checked", "DNSNotChecked")
    assert "Temporary failure" in finding.problem


def test_a_load_balancer_with_a_name_in_place_of_an_address() -> None:
    given = facts(
        public(ingress={"class": "traefik"}),
        objects=served(address="lb.example.net", ingress_class="traefik"),
    )
    right = {"lb.example.net": Answer(("192.0.2.1",)), HOST: Answer(("192.0.2.1",))}
    assert found(given, right) == {}
    finding = found(given, {**right, HOST: Answer()})["DNSRecordMissing"]
    assert "--type=CNAME" in finding.command
    assert "--rrdatas=lb.example.net." in finding.command


def test_dns_that_may_be_right_is_a_warning_where_google_makes_no_certificate() -> None:
    proxied = facts(public(ingress={"tls": {"mode": "none"}}), objects=served())
    finding = dns(Answer(("198.51.100.1",)), proxied)
    assert (finding.severity, "a proxy or a content delivery network" in finding.problem) == ("warning", True)
    internal = facts(public(ingress={"class": "gce-internal"}), objects=served(ingress_class="gce-internal"))
    assert "names of the VPC network may be unknown" in dns(Answer(), internal).problem


def test_nothing_that_a_cluster_says_becomes_a_command_of_its_own() -> None:
    host = "a;reboot.example.com"
    given = facts(public(), objects=served(hosts=(host,)))
    assert "create 'a;reboot.example.com.' --zone" in found(given)["DNSRecordMissing"].command


@pytest.mark.parametrize(
    ("status", "code", "severity", "words"),
    [
        (
            {"certificateStatus": "Provisioning", "domainStatus": [{"domain": HOST, "status": "FailedNotVisible"}]},
            "FailedNotVisible", "warning", "create the DNS record in status.dns",
        ),
        (
            {"certificateStatus": "ProvisioningFailed", "domainStatus": [{"domain": HOST, "status": "FailedCaaForbidden"}]},
            "FailedCaaForbidden", "error", "allow pki.goog",
        ),
        ({"certificateStatus": "ProvisioningFailedPermanently"}, "ProvisioningFailedPermanently", "error", "start over"),
        ({"certificateStatus": "Provisioning"}, "Provisioning", "warning", "15 to 60 minutes"),
    ],
)  # fmt: skip
def test_certificates_in_words(status: Body, code: str, severity: str, words: str) -> None:
    objects = served()
    objects[MANAGED_CERTIFICATE][0]["status"] = status
    finding = dns(Answer((ADDRESS,)), facts(public(), objects=objects))
    assert (finding.code, finding.severity) == (code, severity)
    assert words in finding.problem
