"""An endpoint as the operator would see it: its spec understood, its children, and the conditions that they amount to.

It is the operator's own code that says so, on what was read here; where the caller may not read all that it takes, the conditions
are those that the operator wrote last.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from whisper_operator.apply.outcome import Outcome
from whisper_operator.config import Settings
from whisper_operator.doctor.facts import Facts, Installation
from whisper_operator.doctor.finding import UNCHECKED, Finding, Gap, Subject
from whisper_operator.informer.cache import Cache
from whisper_operator.kube.kinds import (
    AUTOSCALER,
    CHILDREN,
    COMPUTE_ADDRESS,
    DEPLOYMENT,
    ENDPOINT,
    INGRESS,
    MANAGED_CERTIFICATE,
    SERVICE,
    WITNESSES,
)
from whisper_operator.kube.objects import Key, Raw
from whisper_operator.observed.children import Child, Observed
from whisper_operator.policy import allowed
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint, parse
from whisper_operator.status import conditions
from whisper_operator.status.condition import Condition, Previous

TOLD_FROM = (
    *(DEPLOYMENT, SERVICE, INGRESS, MANAGED_CERTIFICATE, AUTOSCALER, COMPUTE_ADDRESS),
    *WITNESSES,
)
"""The kinds that conditions are told from."""

ANY = Settings(server_repository="unknown", server_version="unknown")
"""To understand of a spec what no installation decides."""


@dataclass(frozen=True)
class View:
    resource: Raw
    installations: tuple[Installation, ...]
    """Those that look after it."""
    is_known: bool
    """Whether it is known which do, and what they go by."""
    endpoint: WhisperEndpoint | SpecError
    observed: Observed
    conditions: tuple[Condition, ...] | None
    """As they are now; None: not all could be read that it takes."""

    @property
    def key(self) -> Key:
        return self.resource["metadata"]["namespace"], self.resource["metadata"]["name"]

    @property
    def subject(self) -> Subject:
        return Subject.of(ENDPOINT.name, self.resource)

    @property
    def ingress(self) -> Child | None:
        return next(iter(self.observed.of_kind(INGRESS)), None)

    @property
    def suspended(self) -> bool:
        return isinstance(self.endpoint, WhisperEndpoint) and self.endpoint.suspend

    @property
    def managed_tls(self) -> bool:
        """Whether Google is to make certificates for its hosts, for which it looks them up in DNS."""
        if isinstance(self.endpoint, WhisperEndpoint):
            return self.endpoint.public is not None and self.endpoint.public.tls == "managed"
        return bool(self.observed.of_kind(MANAGED_CERTIFICATE))


def of(facts: Facts, fail: Callable[[Finding], None]) -> list[View]:
    """`fail` is called with what could not be taken in."""
    if isinstance(facts.endpoints, Gap):
        return []
    cache = Cache()
    for kind in (ENDPOINT, *CHILDREN, *WITNESSES):
        objects = facts.endpoints if kind is ENDPOINT else facts.objects[kind]
        for raw in () if isinstance(objects, Gap) else objects:
            try:
                cache.upsert(kind, raw)
            except Exception as error:  # whatever somebody has written into it
                subject = Subject.of(kind.name, raw)
                fail(Finding(UNCHECKED, "CheckFailed", subject, f"{subject} can't be understood: {error!r}"))
    found = []
    for raw in facts.endpoints:
        try:
            found.append(_view(facts, cache, raw))
        except Exception as error:  # likewise
            subject = Subject.of(ENDPOINT.name, raw)
            fail(Finding(UNCHECKED, "CheckFailed", subject, f"{subject} can't be understood: {error!r}"))
    return found


def gaps(facts: Facts) -> Iterator[Finding]:
    """What of endpoints' objects could not be read: one finding for want of rights, and one for all else."""
    found = [each for kind in TOLD_FROM if isinstance(each := facts.objects[kind], Gap)]
    forbidden = [each.needs for each in found if not each.words]
    failed = [each.words for each in found if each.words]
    for gap in (Gap(", ".join(forbidden), ""), Gap("", "; ".join(failed))):
        if gap != Gap("", ""):
            yield gap.finding("What endpoints are made of")


def _view(facts: Facts, cache: Cache, raw: Raw) -> View:
    namespace, observed = raw["metadata"]["namespace"], cache.observed(raw)
    known = () if isinstance(facts.installations, Gap) else facts.installations
    # One that has not all the rights comes last: it may be a Deployment that somebody has called so.
    known = tuple(sorted(known, key=lambda each: each.lacking != ()))
    after = tuple(each for each in known if each.looks_after(namespace) is not False)
    first = next((each for each in after if each.looks_after(namespace) and each.policy is not None), None)
    endpoint = _understood(raw, first)
    is_known = (
        bool(known) and facts.everywhere and all(each.looks_after(namespace) is not None for each in known)
    )
    can_tell = first is not None and not any(isinstance(facts.objects[kind], Gap) for kind in TOLD_FROM)
    return View(
        raw, after, is_known, endpoint, observed, _now(facts, raw, endpoint, observed) if can_tell else None
    )


def _understood(raw: Raw, installation: Installation | None) -> WhisperEndpoint | SpecError:
    try:
        if installation is None or installation.settings is None or installation.policy is None:
            return parse(raw, ANY)
        rules = installation.policy.of(raw["metadata"]["namespace"])
        return allowed.parse(raw, installation.settings, rules)
    except SpecError as error:
        return error


def _now(
    facts: Facts, raw: Raw, endpoint: WhisperEndpoint | SpecError, observed: Observed
) -> tuple[Condition, ...]:
    return tuple(conditions.of(endpoint, observed, Outcome(), Previous.of(raw), facts.now))
