"""What the installation allows its endpoints, by namespace.

For each namespace, what its own entry says comes before what is said for every namespace, and that before the preset: mappings
are merged, all else is replaced. A list that nobody has said limits nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any

import yaml

from whisper_operator.claims import HOST, Claim
from whisper_operator.config import Settings
from whisper_operator.policy.amounts import Amounts, amounts
from whisper_operator.spec.egress import Egress, egress
from whisper_operator.spec.exposure import EXTERNAL
from whisper_operator.spec.fields import Fields

VIOLATION = "PolicyViolation"
"""The reason of whatever is not allowed."""

NONE, MULTI_TENANT = "none", "multi-tenant"
ALLOW, WARN, DENY = "allow", "warn", "deny"
"""What of a public endpoint without keys."""

ANY = "*"
NAMESPACE = "{namespace}"


@dataclass(frozen=True)
class Rules:
    """What holds in one namespace."""

    namespace: str = ""
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What is allowed, by the list's name in the file, with the namespace filled in; one that is not there limits nothing."""
    egress: tuple[Egress, ...] | None = None
    """Ways out that endpoints may open; None: any."""
    without_network_policy: bool = True
    """Whether endpoints may decide about having one."""
    public_without_auth: str = WARN
    names_others: bool = True
    """Whether messages may name endpoints of other namespaces."""
    endpoint: Amounts = field(default_factory=dict)
    together: Amounts = field(default_factory=dict)
    """Ceilings of one endpoint, and of the namespace."""
    server: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def allows(self, name: str, value: str) -> bool:
        """Whether a list of that name has a place for the value."""
        allowed = self.lists.get(name)
        return allowed is None or any(_fits(name, pattern, value) for pattern in allowed)

    def permits(self, claim: Claim) -> bool:
        """Whether an endpoint here may have a host or an address."""
        what, name = claim
        return self.allows("hosts" if what == HOST else "staticIPNames", name)

    def settings(self, base: Settings) -> Settings:
        """The installation's settings as they are in this namespace."""
        warns = self.public_without_auth == WARN
        if not self.server and base.warn_of_open_endpoints == warns:
            return base
        return replace(
            base,
            server_repository=self.server.get("repository", base.server_repository),
            server_version=self.server.get("version", base.server_version),
            warn_of_open_endpoints=warns,
        )


class Policy:
    """What holds in every namespace."""

    def __init__(self, raw: Mapping[str, Any] | None = None) -> None:
        """`raw`: as the schema has it."""
        self._raw = raw or {}
        self._rules: dict[str, Rules] = {}
        self.ceilings: Amounts = amounts(self._raw.get("ceilings") or {})
        """Of all namespaces together."""

    def is_same(self, other: "Policy") -> bool:
        """Whether both say the same, however they are written."""
        return self._raw == other._raw

    def together(self, namespace: str) -> Amounts:
        """What all endpoints of a namespace may ask for together."""
        return self.of(namespace).together

    def of(self, namespace: str) -> Rules:
        """The rules of a namespace. They are kept, as every look at an endpoint asks for them."""
        found = self._rules.get(namespace)
        if found is None:
            named = (self._raw.get("namespaces") or {}).get(namespace) or {}
            merged = _merged(_preset(self._raw.get("preset", NONE)), self._raw.get("everywhere") or {})
            found = self._rules[namespace] = _rules(_merged(merged, named), namespace)
        return found


def _rules(raw: Mapping[str, Any], namespace: str) -> Rules:
    lists = {
        name: tuple(entry.replace(NAMESPACE, namespace) for entry in entries)
        for name, entries in raw.items()
        if name != "egress" and isinstance(entries, list)
    }
    ceilings = raw.get("ceilings") or {}
    return Rules(
        namespace=namespace,
        lists=lists,
        egress=_ways_out(raw) if "egress" in raw else None,
        without_network_policy=raw.get("withoutNetworkPolicy", True),
        public_without_auth=raw.get("publicWithoutAuth", WARN),
        names_others=raw.get("namesOthers", True),
        endpoint=amounts(ceilings.get("endpoint") or {}),
        together=amounts(ceilings.get("namespace") or {}),
        server=raw.get("server") or {},
        defaults=raw.get("defaults") or {},
    )


def _ways_out(raw: Mapping[str, Any]) -> tuple[Egress, ...]:
    everything = [Egress(None, None, ())] if {} in raw["egress"] else []
    return (*everything, *egress(Fields({"egress": [way for way in raw["egress"] if way]}, ""), "egress"))


def _fits(name: str, pattern: str, value: str) -> bool:
    if pattern == ANY:
        return True
    if name == "registries":
        # A port is not a tag: of a registry alone, only what comes after a slash is its own.
        path = "/" in pattern
        rest = value.removeprefix(pattern)
        return value.startswith(pattern) and (
            rest.startswith(("/", ":", "@") if path else "/") or (path and not rest)
        )
    if name == "hosts" and pattern.startswith("*."):
        return value.endswith(pattern[1:])
    if pattern.endswith(ANY):
        return value.startswith(pattern[:-1])
    return value == pattern


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(base)
    for name, value in over.items():
        both = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
        found[name] = _merged(found[name], value) if both else value
    return found


def completed(spec: Mapping[str, Any], defaults: Mapping[str, Any]) -> Mapping[str, Any]:
    """A spec with what it does not say taken from the defaults, where both go together."""
    if not defaults:
        return spec
    given = {name: value for name, value in defaults.items() if _goes_with(name, spec)}
    return _merged(given, spec)


def _goes_with(name: str, spec: Mapping[str, Any]) -> bool:
    """Whether a default for a field makes sense beside what the spec says: the CRD has seen the spec alone."""
    if name == "accelerator":
        return "device" not in spec
    if name == "resources":
        return name not in spec  # a request of the one might exceed a limit of the other
    if name == "engine":
        return "computeType" not in spec
    if name == "limits":
        scaling = spec.get("autoscaling")
        return not isinstance(scaling, Mapping) or "targetInFlight" not in scaling
    if name == "defaults":
        return not str(spec.get("model")).endswith(".en")
    if name == "ingress":
        given = spec.get("ingress")
        return "host" in spec and (not isinstance(given, Mapping) or given.get("class", EXTERNAL) == EXTERNAL)
    return True


@cache
def _preset(name: str) -> dict[str, Any]:
    found: dict[str, Any] = (
        {} if name == NONE else yaml.safe_load((resources.files(__package__) / f"{name}.yaml").read_text())
    )
    return found
