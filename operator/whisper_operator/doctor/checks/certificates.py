"""Each ManagedCertificate, in Google's words and ours."""

from collections.abc import Iterator

from whisper_operator.doctor.facts import Facts
from whisper_operator.doctor.finding import ERROR, WARNING, Finding, Result, Subject, Well, command
from whisper_operator.doctor.views import View
from whisper_operator.kube.kinds import MANAGED_CERTIFICATE
from whisper_operator.status.conditions import certificates


def check(facts: Facts, view: View) -> Iterator[Result]:
    for child in view.observed.of_kind(MANAGED_CERTIFICATE):
        if child.deleting or view.suspended:
            continue
        subject = Subject(MANAGED_CERTIFICATE.name, child.name, child.namespace)
        fault = certificates.trouble(child)
        if fault is not None:
            yield Finding(
                ERROR if fault.needs_action else WARNING,
                fault.reason,
                subject,
                fault.message,
                command=command(
                    "kubectl", "describe", "managedcertificate", "-n", child.namespace, child.name
                ),
            )
        elif child.status.get("certificateStatus") == "Active":
            yield Well(f"{subject} for {child.certified_host} is active")
