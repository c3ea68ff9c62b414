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

from whisper_operator.config import Settings
from whisper_operator.policy.amounts import Amounts, ceilings
from whisper_operator.policy.defaults import merged
from whisper_operator.spec.egress import Egress, egress
from whisper_operator.spec.fields import Fields

VIOLATION, NO_ROOM = "PolicyViolation", "CeilingReached"
"""The reasons of what is not allowed, and of what is, but for the ceilings, which leave no room for it now."""

NONE, MULTI_TENANT = "none", "multi-tenant"
ALLOW, WARN, DENY = "allow", "warn", "deny"
"""What of a public endpoint without keys."""

ANY = "*"
NAMESPACE = "{namespace}"


@dataclass(frozen=True)
class Rules:
    """What holds in one namespace."""

    namespace: str = ""
    is_closed: bool = False
    """Whether nothing is to be changed at all."""
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What is allowed, by the list's name in the file, with the namespace filled in; one that is not there limits nothing."""
    egress: tuple[Egress, ...] | None = None
    """Ways out that endpoints may open; None: any."""
    without_network_policy: bool = True
    """Whether endpoints may decide about having one."""
    overcommit: bool = True
    """Whether endpoints may be limited to more of what a node can run out of than they request."""
    public_without_auth: str = WARN
    names_others: bool = True
    """Whether messages may name endpoints of other namespaces."""
    may_pause: bool = True
    """Whether an endpoint's annotation holds its upgrades."""
    ceiling_of_one: Amounts = field(default_factory=dict)
    ceiling_of_all: Amounts = field(default_factory=dict)
    """What one endpoint may ask for, and all of the namespace together."""
    server: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def allows(self, name: str, value: str) -> bool:
        """Whether a list of that name has a place for the value."""
        allowed = self.lists.get(name)
        return allowed is None or any(_fits(name, pattern, value) for pattern in allowed)

    def settings(self, base: Settings) -> Settings:
        """The installation's settings as they are in this namespace."""
        return replace(
            base,
            server_repository=self.server.get("repository", base.server_repository),
            server_version=self.server.get("version", base.server_version),
            warn_of_open_endpoints=self.public_without_auth == WARN,
            endpoints_may_pause=self.may_pause,
        )


class Policy:
    """What holds in every namespace."""

    is_closed = False

    def __init__(self, raw: Mapping[str, Any] | None = None) -> None:
        """`raw`: as the schema has it."""
        self._raw = raw or {}
        self._rules: dict[str, Rules] = {}
        self.ceilings: Amounts = ceilings(self._raw.get("ceilings") or {})
        """Of all namespaces together."""

    @staticmethod
    def closed() -> "Policy":
        """By which nothing may be changed: nobody knows what is allowed."""
        found = Policy()
        found.is_closed = True
        return found

    def is_same(self, other: "Policy") -> bool:
        """Whether both say the same, however they are written."""
        return (self._raw, self.is_closed) == (other._raw, other.is_closed)

    def together(self, namespace: str) -> Amounts:
        """What all endpoints of a namespace may ask for together."""
        return self.of(namespace).ceiling_of_all

    def of(self, namespace: str) -> Rules:
        """The rules of a namespace. They are kept, as every look at an endpoint asks for them."""
        if self.is_closed:
            return Rules(namespace, is_closed=True)
        found = self._rules.get(namespace)
        if found is None:
            named = (self._raw.get("namespaces") or {}).get(namespace) or {}
            base = merged(_preset(self._raw.get("preset", NONE)), self._raw.get("everywhere") or {})
            found = self._rules[namespace] = _rules(merged(base, named), namespace)
        return found


def _rules(raw: Mapping[str, Any], namespace: str) -> Rules:
    lists = {
        name: tuple(entry.replace(NAMESPACE, namespace) for entry in entries)
        for name, entries in raw.items()
        if name != "egress" and isinstance(entries, list)
    }
    limits = raw.get("ceilings") or {}
    return Rules(
        namespace=namespace,
        lists=lists,
        egress=_ways_out(raw) if "egress" in raw else None,
        without_network_policy=raw.get("withoutNetworkPolicy", True),
        overcommit=raw.get("overcommit", True),
        public_without_auth=raw.get("publicWithoutAuth", WARN),
        names_others=raw.get("namesOthers", True),
        may_pause=raw.get("mayPause", True),
        ceiling_of_one=ceilings(limits.get("endpoint") or {}),
        ceiling_of_all=ceilings(limits.get("namespace") or {}),
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


@cache
def _preset(name: str) -> dict[str, Any]:
    found: dict[str, Any] = (
        {} if name == NONE else yaml.safe_load((resources.files(__package__) / f"{name}.yaml").read_text())
    )
    return found
