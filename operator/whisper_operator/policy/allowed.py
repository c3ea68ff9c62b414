"""Whether a namespace's rules allow what an endpoint asks for: all that they don't, in one message."""

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from whisper_operator.config import Settings
from whisper_operator.policy.amounts import asked, said
from whisper_operator.policy.defaults import completed
from whisper_operator.policy.rules import DENY, VIOLATION, Rules
from whisper_operator.spec import endpoint as spec_endpoint
from whisper_operator.spec.egress import Egress
from whisper_operator.spec.endpoint import CANONICAL_MODELS, SpecError, WhisperEndpoint
from whisper_operator.spec.fields import without_nulls
from whisper_operator.spec.quantity import in_bytes

LISTED = {
    "image": "registries",
    "model": "models",
    "accelerator.type": "accelerators",
    "host": "hosts",
    "additionalHosts[]": "hosts",
    "staticIPName": "staticIPNames",
    "ingress.class": "ingressClasses",
    "ingress.annotations{}": "ingressAnnotations",
    "ingress.tls.preSharedCert": "certificates",
    "ingress.sslPolicy": "sslPolicies",
    "ingress.securityPolicy": "securityPolicies",
    "ingress.tls.secretName": "secrets",
    "auth.secretName": "secrets",
    "imagePullSecrets[].name": "secrets",
    "modelVolume.persistentVolumeClaim.claimName": "volumeClaims",
    "scheduling.serviceAccountName": "serviceAccounts",
    "scheduling.priorityClassName": "priorityClasses",
    "scheduling.nodeSelector{}": "nodeSelectors",
    "scheduling.tolerations[].key": "tolerations",
    "scheduling.env[].name": "env",
    "scheduling.podLabels{}": "podLabels",
    "scheduling.podAnnotations{}": "podAnnotations",
}
"""Which of the rules' lists a field is held against: [] is each item of a list, {} each key of a mapping."""

CLOSED = (
    "The installation's policy can't be used, and nobody knows what it allows: until it can, nothing is changed, but that a "
    "suspended endpoint stops. What runs is left as it is. The platform team finds the reason in the log."
)
"""What is wrong with every endpoint, whatever it asks for, while the policy can't be used."""

SHOWN = 8
"""Of what is allowed, in a message."""


def parse(resource: Mapping[str, Any], settings: Settings, rules: Rules) -> WhisperEndpoint:
    """The endpoint that a resource describes where these rules hold. Raises SpecError."""
    if rules.is_closed:
        raise SpecError(VIOLATION, CLOSED)
    given = resource.get("spec")
    own = without_nulls({} if given is None else given)
    if not isinstance(own, Mapping):
        return spec_endpoint.parse(resource, settings)  # which says so
    whole = {**resource, "spec": completed(own, rules.defaults)}
    endpoint = spec_endpoint.parse(whole, rules.settings(settings))
    check(own, endpoint, rules)
    return endpoint


def check(spec: Mapping[str, Any], endpoint: WhisperEndpoint, rules: Rules) -> None:
    """Raise SpecError for what is not allowed of a spec as its author wrote it; `endpoint` is what was understood of it."""
    wrong = [*_unlisted(spec, endpoint, rules), *_open(endpoint, rules), *_network(spec, endpoint, rules)]
    wrong += [*_beyond_requests(endpoint, rules), *_too_much(endpoint, rules)]
    if wrong:
        raise SpecError(
            VIOLATION,
            f"The installation's policy does not allow this in namespace {endpoint.namespace}: {'; '.join(wrong)}. What runs "
            "is left as it is. Change the spec, or ask the platform team to allow it.",
        )


def _unlisted(spec: Mapping[str, Any], endpoint: WhisperEndpoint, rules: Rules) -> Iterator[str]:
    for path, name in LISTED.items():
        if name not in rules.lists:
            continue
        given = list(values(spec, path))
        for value in given or _built_in(path, endpoint, rules):
            other = CANONICAL_MODELS.get(value, value) if name == "models" else value
            if not rules.allows(name, value) and not rules.allows(name, other):
                default = "" if given else ", which is the default"
                yield f"spec.{path.removesuffix('{}')} {_quoted(value)}{default} ({_allowed(name, rules)})"


def values(spec: Any, path: str) -> Iterator[str]:
    """What stands at a path of LISTED; "" for a list's item that lacks it."""
    step, _, rest = path.partition(".")
    found = spec.get(step.rstrip("[]{}")) if isinstance(spec, Mapping) else None
    if found is None:
        return
    if step.endswith("{}"):
        yield from (str(key) for key in found)
    elif step.endswith("[]"):
        for item in found:
            yield from ((list(values(item, rest)) or [""]) if rest else [str(item)])
    elif rest:
        yield from values(found, rest)
    else:
        yield str(found)


def _built_in(path: str, endpoint: WhisperEndpoint, rules: Rules) -> list[str]:
    """What holds where neither the spec nor the installation says anything."""
    if list(values(rules.defaults, path)):
        return []
    if path == "model":
        return [endpoint.model]
    if path == "accelerator.type" and endpoint.gpu is not None:
        return [endpoint.gpu.type]
    if path == "ingress.class" and endpoint.public is not None:
        return [endpoint.public.ingress_class]
    return []


def _open(endpoint: WhisperEndpoint, rules: Rules) -> Iterator[str]:
    if rules.public_without_auth == DENY and endpoint.is_open:
        yield "spec.host without spec.auth (anybody could use it: name a Secret with API keys)"


def _network(spec: Mapping[str, Any], endpoint: WhisperEndpoint, rules: Rules) -> Iterator[str]:
    if spec.get("networkPolicy", {}).get("enabled") is False and not rules.without_network_policy:
        yield "spec.networkPolicy.enabled (not for endpoints to decide)"
    if rules.egress is None:
        return
    for index, way in enumerate(endpoint.egress):
        if not any(_within(way, allowed) for allowed in rules.egress):
            yield f"spec.networkPolicy.egress[{index}] (not within the ways out that are allowed)"


def _too_much(endpoint: WhisperEndpoint, rules: Rules) -> Iterator[str]:
    for name, amount in asked(endpoint).items():
        if amount > rules.ceiling_of_one.get(name, amount):
            yield f"{name} {said(name, amount)} (an endpoint may ask for {said(name, rules.ceiling_of_one[name])})"


def _beyond_requests(endpoint: WhisperEndpoint, rules: Rules) -> Iterator[str]:
    requests, limits = endpoint.resources.requests, endpoint.resources.limits
    for name in () if rules.overcommit else ("memory", "ephemeral-storage"):
        if in_bytes(limits[name]) > in_bytes(requests[name]):
            yield (
                f"spec.resources.limits.{name} {limits[name]}, which is more than is requested ({requests[name]}; where a node "
                "runs out of it, others' pods end as well)"
            )


def _within(way: Egress, allowed: Egress) -> bool:
    if allowed.namespace is not None and way.namespace != allowed.namespace:
        return False
    if allowed.cidr is not None and (way.cidr is None or not _is_part(way.cidr, allowed.cidr)):
        return False
    if not allowed.ports:
        return True
    return bool(way.ports) and all(
        any(
            port.protocol == each.protocol
            and each.first <= port.first
            and (port.last or port.first) <= (each.last or each.first)
            for each in allowed.ports
        )
        for port in way.ports
    )


def _is_part(cidr: str, of: str) -> bool:
    one, other = ipaddress.ip_network(cidr), ipaddress.ip_network(of)
    if isinstance(one, ipaddress.IPv4Network) and isinstance(other, ipaddress.IPv4Network):
        return one.subnet_of(other)
    if isinstance(one, ipaddress.IPv6Network) and isinstance(other, ipaddress.IPv6Network):
        return one.subnet_of(other)
    return False


def _allowed(name: str, rules: Rules) -> str:
    entries = rules.lists.get(name, ())
    if not entries:
        return f"no {name} are allowed"
    more = ", ..." if len(entries) > SHOWN else ""
    return f"allowed {name}: {', '.join(entries[:SHOWN])}{more}"


def _quoted(value: str) -> str:
    """As a terminal can show it, whatever is in it."""
    return repr(value if len(value) <= 100 else value[:97] + "...")
