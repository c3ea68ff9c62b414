"""What is wrong with an endpoint and what to do next, from its status alone."""

from dataclasses import dataclass

from whisper_operator.kube.objects import condition
from whisper_operator.observed.foreign_words import printable
from whisper_operator.plugin.endpoint import Endpoint

ASIDE = ("AddressAssigned", "CertificateReady", "AutoscalingReady", "Available")
"""Conditions that may say more than Ready does."""


@dataclass(frozen=True)
class Verdict:
    is_well: bool
    head: str
    """In a few words."""
    details: tuple[str, ...] = ()
    """What is wrong, and what to do about it, a text each."""


def of(endpoint: Endpoint) -> Verdict:
    status, generation = endpoint.status, endpoint.resource["metadata"].get("generation", 0)
    ready, stalled = condition(status, "Ready"), condition(status, "Stalled")
    doctor = f"`whisper-operator doctor {endpoint.name} -n {endpoint.namespace}` looks for the cause."
    if not ready:
        return Verdict(
            False, "not seen by the operator yet", (f"The operator writes a status within seconds. {doctor}",)
        )
    if ready.get("observedGeneration", generation) < generation:
        late = (
            f"What follows is about an earlier spec. The operator looks at a change within seconds. {doctor}"
        )
        return Verdict(False, "changed, and not seen by the operator since", (late, *_said(endpoint)))
    if ready["status"] == "True" and stalled.get("status") != "True":
        serving = "" if ready["reason"] == "Ready" else f" ({ready['reason']})"
        return Verdict(True, f"Ready{serving}", () if not serving else (printable(ready["message"]),))
    is_stalled = stalled.get("status") == "True"
    head = f"somebody has to act: {stalled['reason']}" if is_stalled else f"not Ready yet: {ready['reason']}"
    if condition(status, "Available").get("status") == "True":
        head += " (it serves meanwhile)"
    return Verdict(False, head, (*_said(endpoint), *_records(endpoint)))


def _said(endpoint: Endpoint) -> tuple[str, ...]:
    """Each message once."""
    found = [condition(endpoint.status, each) for each in ("Stalled", "Ready")]
    aside = [condition(endpoint.status, each) for each in ASIDE]
    wrong = [
        each
        for each in found
        if each and each["status"] == ("True" if each["type"] == "Stalled" else "False")
    ]
    wrong += [each for each in aside if each.get("status") == "False"]
    return tuple(dict.fromkeys(printable(each["message"]) for each in wrong))


def _records(endpoint: Endpoint) -> tuple[str, ...]:
    """That hosts need, while no certificate proves that they are there."""
    certificate = condition(endpoint.status, "CertificateReady")
    if not certificate or certificate["status"] == "True":
        return ()
    records = endpoint.status.get("dns") or ()
    return tuple(printable(f"DNS record: {each['name']}. {each['type']} {each['value']}") for each in records)
