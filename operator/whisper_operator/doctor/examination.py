"""All checks, one after the other: one that fails, or an endpoint that nobody understands, keeps no other from being done."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from whisper_operator.doctor import views
from whisper_operator.doctor.checks import (
    access,
    certificates,
    configuration,
    crd,
    deployment,
    dns,
    endpoints,
    metrics_api,
    nodes,
    overlap,
    quota,
)
from whisper_operator.doctor.facts import Facts
from whisper_operator.doctor.finding import SEVERITIES, UNCHECKED, Finding, Gap, Result, Subject, Well
from whisper_operator.doctor.gathering import Asked, gather
from whisper_operator.doctor.reading import Reader
from whisper_operator.doctor.resolver import Resolve
from whisper_operator.kube.client import Api
from whisper_operator.kube.kinds import ENDPOINT

OF_INSTALLATION = (
    ("the CRD", crd.check),
    ("the operator", deployment.check),
    ("the operator's rights", access.check),
    ("the configuration", configuration.check),
    ("other installations", overlap.check),
)
OF_ENDPOINT = (
    ("the endpoint", endpoints.check),
    ("DNS", dns.check),
    ("certificates", certificates.check),
    ("the metrics API", metrics_api.check),
    ("GPU nodes", nodes.check),
    ("quotas", quota.check),
)


class NothingRead(Exception):
    """Not one thing could be read: what is there to say of it is no examination."""


@dataclass(frozen=True)
class Report:
    findings: tuple[Finding, ...]
    """The gravest first."""
    well: tuple[Well, ...]

    @property
    def errors(self) -> int:
        return sum(each.severity == "error" for each in self.findings)


async def examine(api: Api, asked: Asked, resolve: Resolve) -> Report:
    """Raises NoSuchEndpoint, NothingRead."""
    reader = Reader(api)
    facts = await gather(reader, asked)
    if not reader.reached:
        first = facts.endpoints if isinstance(facts.endpoints, Gap) else Gap("", "")
        words = first.words or f"you have not even the right to {first.needs}"
        raise NothingRead(f"nothing could be read from {api.server}: {words}")
    return judge(_concerned(facts, asked), resolve)


def judge(facts: Facts, resolve: Resolve) -> Report:
    """What all checks find."""
    results: list[Result] = []
    seen = views.of(facts, results.append)
    facts = replace(facts, answers=resolve(sorted(dns.names(seen))))
    if isinstance(facts.endpoints, Gap) and ENDPOINT not in facts.missing:
        results.append(facts.endpoints.finding("Endpoints"))
    for what, check in OF_INSTALLATION:
        results += _guarded(what, Subject("Installation"), check(facts))
    if seen:
        results += views.gaps(facts)
    for view in seen:
        for what, check_one in OF_ENDPOINT:
            results += _guarded(what, view.subject, check_one(facts, view))
    unique = dict.fromkeys(results)  # what concerns many endpoints is said once
    findings: dict[tuple[str, Subject, str], Finding] = {}
    for each in unique:
        if isinstance(each, Finding):
            findings.setdefault(_sameness(each), each)
    ordered = sorted(findings.values(), key=lambda each: SEVERITIES.index(each.severity))
    return Report(tuple(ordered), tuple(each for each in unique if isinstance(each, Well)))


def _sameness(finding: Finding) -> tuple[str, Subject, str]:
    """What concerns all endpoints, such as a kind of GPU, is said with the first of them for an example."""
    words = finding.problem if finding.code == "OperatorComplains" else ""
    return finding.code, finding.subject, words


def _guarded(what: str, subject: Subject, results: Iterable[Result]) -> Iterator[Result]:
    try:
        yield from results
    except Exception as error:  # whatever a cluster shows
        words = f"{what}: not checked, by a fault of this command's own: {type(error).__name__}: {error}"
        yield Finding(UNCHECKED, "CheckFailed", subject, words)


def _concerned(facts: Facts, asked: Asked) -> Facts:
    """Without the installations that have nothing to do with the one endpoint that was asked about."""
    if asked.name is None or asked.namespace is None or isinstance(facts.installations, Gap):
        return facts
    own = tuple(each for each in facts.installations if each.looks_after(asked.namespace) is not False)
    return replace(facts, installations=own) if own else facts
