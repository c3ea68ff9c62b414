"""DNS of each host against the load balancer's address."""

import ipaddress
from collections.abc import Collection, Iterator

from whisper_operator.doctor.facts import Answer, Facts
from whisper_operator.doctor.finding import ERROR, UNCHECKED, WARNING, Finding, Result, Subject, Well, command
from whisper_operator.doctor.views import View
from whisper_operator.spec.exposure import INTERNAL


def names(views: Collection[View]) -> set[str]:
    """All that have to be looked up: hosts, and load balancers that have a name in place of an address."""
    found: set[str] = set()
    for view in views:
        if given := view.observed.addresses:
            found |= {*_hosts(view), *(each for each in given if not _is_ip(each))}
    return found


def check(facts: Facts, view: View) -> Iterator[Result]:
    given = view.observed.addresses
    if not given or view.suspended:
        return
    right = set(given)
    for name in given:
        right |= set(facts.answers.get(name, Answer()).addresses)
    for host in _hosts(view):
        yield from _of(
            view, host, given[0], right, facts.answers.get(host, Answer(failure="it was not asked"))
        )


def _of(view: View, host: str, address: str, right: set[str], answer: Answer) -> Iterator[Result]:
    subject = Subject("Host", host, view.key[0])
    whose = f"the load balancer of {view.subject} has {address}"
    if answer.failure:
        words = f"DNS of {host} not checked: {answer.failure}"
        yield Finding(UNCHECKED, "DNSNotChecked", subject, words)
        return
    record = "AAAA" if ":" in address else "A" if _is_ip(address) else "CNAME"
    value = address if _is_ip(address) else f"{address}."
    create = f"{record} {value}"
    advice = f"Let the record of {host}. be {create}, at whoever serves its zone; with Google's Cloud DNS:"
    make = command(
        *("gcloud", "dns", "record-sets", "create", f"{host}.", "--zone=ZONE"),
        *(f"--type={record}", "--ttl=300", f"--rrdatas={value}"),
    )
    change = make.replace("record-sets create", "record-sets update", 1)
    # A name that only the company's own DNS knows, or that a proxy in front has, may well be right.
    severity = ERROR if view.managed_tls else WARNING
    doubt = "" if view.managed_tls else _doubt(view)
    if not answer.addresses:
        problem = f"DNS has no record for {host}, and {whose}: nobody gets there by that name.{doubt}"
        yield Finding(severity, "DNSRecordMissing", subject, problem, advice, make)
        return
    others = [each for each in answer.addresses if each not in right and not _is_made_up(each, right)]
    if not others:
        yield Well(f"{host} resolves to {address}")
        return
    elsewhere = ", ".join(others)
    if any(each in right for each in answer.addresses) and all(":" in each for each in others):
        yield Finding(
            severity,
            "DNSIPv6Elsewhere",
            subject,
            f"{host} resolves to {address} for IPv4, as it should, and to {elsewhere} for IPv6, where clients that have both go "
            f"first.{doubt}",
            f"Remove the AAAA record of {host}.",
            command("gcloud", "dns", "record-sets", "delete", f"{host}.", "--zone=ZONE", "--type=AAAA"),
        )
        return
    some = "some of the requests go" if len(others) < len(answer.addresses) else "requests go"
    problem = f"{host} resolves to {elsewhere}, and {whose}: {some} elsewhere.{doubt}"
    yield Finding(severity, "DNSPointsElsewhere", subject, problem, advice, change)


def _doubt(view: View) -> str:
    if view.ingress is not None and view.ingress.ingress_class == INTERNAL:
        return " Mind that this was asked from here, where names of the VPC network may be unknown."
    return " If a proxy or a content delivery network stands in front, that is as it should be."


def _hosts(view: View) -> tuple[str, ...]:
    return view.ingress.hosts if view.ingress is not None else ()


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_made_up(address: str, right: Collection[str]) -> bool:
    """Whether it is an IPv6 address that a resolver has made from the right one of IPv4, for a network without IPv4 (NAT64)."""
    found = ipaddress.ip_address(address)
    if not isinstance(found, ipaddress.IPv6Address):
        return False
    return str(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)) in right
