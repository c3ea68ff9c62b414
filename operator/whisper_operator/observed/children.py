"""What a cluster showed of one endpoint: small frozen records, cut down from API objects to what decisions need."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from whisper_operator.kube.kinds import (
    CLASS_ANNOTATION,
    DEPLOYMENT,
    FIELD_MANAGER,
    HASH_ANNOTATION,
    INGRESS,
    MANAGED_CERTIFICATE,
    SPEC_ANNOTATION,
    STATIC_IP_ANNOTATIONS,
    TEMPLATE_ANNOTATION,
    UPGRADING_ANNOTATION,
    Kind,
)
from whisper_operator.observed.managed_fields import is_others, is_own, union
from whisper_operator.observed.pods import Pod, takes
from whisper_operator.observed.warnings import Warning

SHARED_CERTIFICATES = "ingress.gcp.kubernetes.io/pre-shared-cert"
"""GKE's annotation with the project's certificates that an Ingress asks for, those of its ManagedCertificates included."""

KEPT_SPEC_FIELDS = (
    "replicas",
    "strategy",
    "progressDeadlineSeconds",
    "domains",
    "minReplicas",
    "maxReplicas",
)
CONTROLLERS_ANNOTATIONS = "f:ingress.kubernetes.io/"
"""How ingress-gce's own begin, in the form of managedFields: it writes them when it has brought the load balancer in line."""
KEPT_ANNOTATIONS = (
    *("ingress.kubernetes.io/ssl-cert", SHARED_CERTIFICATES),
    *(SPEC_ANNOTATION, TEMPLATE_ANNOTATION, UPGRADING_ANNOTATION),
)


@dataclass(frozen=True, slots=True)
class Owner:
    """A controlling owner reference."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Child:
    """One live object that the operator may have written."""

    kind: Kind
    namespace: str
    name: str
    uid: str
    version: int
    """metadata.resourceVersion, which orders the states of one object."""
    generation: int
    owner: Owner | None
    deleting: bool
    applied_hash: str | None
    """Hash of what was last applied, as kept in the object's annotation."""
    own_fields: str
    """What the operator owns of it by server-side apply, JSON in the form of metadata.managedFields[].fieldsV1: a string,
    since a thousand parsed ones would be most of the operator's memory."""
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    refused: frozenset[str] = frozenset()
    """Paths of declared fields that admission took out of our last apply."""
    annotations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Those that controllers tell something by, and the operator itself of a Deployment's pods."""
    controller_wrote: str = ""
    """Of an Ingress or a ManagedCertificate: when its controller last wrote down what it has, as 2026-01-31T12:00:00Z."""
    ingress_class: str = ""
    """Of an Ingress: which controller it is for."""
    hosts: tuple[str, ...] = ()
    """Of an Ingress: whose requests come to it, whoever said so."""
    static_ip_name: str = ""
    """Of an Ingress of GKE's: the reserved address that it names."""
    secrets: tuple[str, ...] = ()
    """Of an Ingress: the Secrets that it names for TLS, "" for one without a name."""
    scaled_by_others: bool = False
    """Whether somebody else owns spec.replicas, such as an autoscaler."""
    others_fields: str = "{}"
    """What anybody else has set of it, in the same form."""
    takes: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: MappingProxyType({}))
    """Of a Deployment: the requests and limits of a pod's server."""

    @property
    def certified_host(self) -> str:
        """The host that a ManagedCertificate is for; its own name if somebody has emptied it."""
        return str(next(iter(self.spec.get("domains") or ()), self.name))

    @property
    def made_by_operator(self) -> bool:
        """Whether the operator has made it, whoever owns it now: by the hash, or by what is the operator's of its fields, which
        outlives it."""
        return self.applied_hash is not None or self.own_fields != "{}"

    def owns(self, *path: str) -> bool:
        """Whether the operator declares a field of it, such as spec, sslPolicy."""
        at = json.loads(self.own_fields)
        for name in path:
            at = at.get(f"f:{name}")
            if at is None:
                return False
        return True

    @staticmethod
    def of(kind: Kind, raw: Mapping[str, Any]) -> "Child":
        """From an object as the API returns it."""
        metadata = raw["metadata"]
        spec = raw.get("spec") or {}
        annotations = metadata.get("annotations") or {}
        return Child(
            kind=kind,
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            version=int(metadata["resourceVersion"]),
            generation=metadata.get("generation", 0),
            owner=controller(raw),
            deleting="deletionTimestamp" in metadata,
            applied_hash=annotations.get(HASH_ANNOTATION),
            own_fields=_own_fields(metadata.get("managedFields") or ()),
            spec={name: spec[name] for name in KEPT_SPEC_FIELDS if name in spec},
            status=raw.get("status") or {},
            annotations={name: annotations[name] for name in KEPT_ANNOTATIONS if name in annotations},
            scaled_by_others=_scaled_by_others(metadata.get("managedFields") or ()),
            controller_wrote=_controller_wrote(metadata.get("managedFields") or ())
            if kind in (INGRESS, MANAGED_CERTIFICATE)
            else "",
            others_fields=_others_fields(kind, metadata.get("managedFields") or ()),
            **(_of_ingress(raw) if kind is INGRESS else {}),
            takes=takes((spec.get("template") or {}).get("spec") or {})
            if kind is DEPLOYMENT
            else MappingProxyType({}),
        )


@dataclass(frozen=True)
class Observed:
    """The live children of one endpoint, by kind and name."""

    children: Mapping[tuple[Kind, str], Child] = field(default_factory=lambda: MappingProxyType({}))
    optional: frozenset[Kind] = frozenset()
    """Of the kinds that a cluster may lack without harm, those that it has."""
    unreadable: Mapping[Kind, str] = field(default_factory=lambda: MappingProxyType({}))
    """Kinds that the operator has no right to read there, and the API server's words: what is known of them may be old."""

    pods: tuple[Pod, ...] = ()
    """Of the current spec, as far as the Deployment has taken it up."""
    old_pods: tuple[Pod, ...] = ()
    """Of earlier specs."""
    warnings: tuple[Warning, ...] = ()
    """Events about children and pods, in no order."""

    @staticmethod
    def nothing() -> "Observed":
        """What a cluster without any child of the endpoint shows."""
        return Observed()

    def of_kind(self, kind: Kind) -> list[Child]:
        return [child for (its_kind, _), child in self.children.items() if its_kind is kind]

    def only(self, kind: Kind, name: str) -> Child | None:
        return self.children.get((kind, name))

    def warned(self, uid: str) -> list[Warning]:
        """The warnings about one object."""
        return [warning for warning in self.warnings if warning.about == uid]

    @property
    def address(self) -> str | None:
        """The load balancer's IP address, or the name that some give instead, once the Ingress has one."""
        return next(iter(self.addresses), None)

    @property
    def addresses(self) -> list[str]:
        """All of them, where it has several, such as one of IPv6."""
        entries = [
            entry
            for child in self.of_kind(INGRESS)
            for entry in (child.status.get("loadBalancer") or {}).get("ingress") or ()
        ]
        found = (entry.get("ip") or entry.get("hostname") for entry in entries)
        return [str(each) for each in found if each]


def class_of(ingress: Mapping[str, Any]) -> str:
    """Which controller an Ingress is for, by the annotation that GKE's look at, or by the field of all others."""
    annotations = ingress["metadata"].get("annotations") or {}
    return str(annotations.get(CLASS_ANNOTATION) or (ingress.get("spec") or {}).get("ingressClassName") or "")


def _of_ingress(raw: Mapping[str, Any]) -> dict[str, Any]:
    metadata, spec = raw["metadata"], raw.get("spec") or {}
    annotations, ingress_class = metadata.get("annotations") or {}, class_of(raw)
    return {
        "ingress_class": ingress_class,
        "hosts": tuple(rule["host"] for rule in spec.get("rules") or () if rule.get("host")),
        "static_ip_name": annotations.get(STATIC_IP_ANNOTATIONS.get(ingress_class, ""), ""),
        "secrets": tuple(tls.get("secretName", "") for tls in spec.get("tls") or ()),
    }


def controller(raw: Mapping[str, Any]) -> Owner | None:
    """The controlling owner of an object as the API returns it."""
    references: Iterable[Mapping[str, Any]] = raw["metadata"].get("ownerReferences") or ()
    for reference in references:
        if reference.get("controller"):
            return Owner(reference["kind"], reference["name"], reference["uid"])
    return None


def _controller_wrote(entries: Iterable[Mapping[str, Any]]) -> str:
    written = (
        str(entry.get("time") or "")
        for entry in entries
        if "f:status" in (entry.get("fieldsV1") or {})
        or any(
            name.startswith(CONTROLLERS_ANNOTATIONS)
            for name in (entry.get("fieldsV1") or {}).get("f:metadata", {}).get("f:annotations", {})
        )
    )
    return max(written, default="")


def _scaled_by_others(entries: Iterable[Mapping[str, Any]]) -> bool:
    return any(
        "f:replicas" in (entry.get("fieldsV1") or {}).get("f:spec", {})
        for entry in entries
        if entry.get("manager") != FIELD_MANAGER  # which may have scaled it, to suspend
    )


def _own_fields(entries: Iterable[Mapping[str, Any]]) -> str:
    return next((_compact(entry.get("fieldsV1") or {}) for entry in entries if is_own(entry)), "{}")


def _others_fields(kind: Kind, entries: Iterable[Mapping[str, Any]]) -> str:
    """Of this version of the kind: in another, the same field may have another name."""
    fields: dict[str, Any] = {}
    for entry in entries:
        if is_others(entry) and entry.get("apiVersion") == kind.api_version:
            fields = union(fields, entry.get("fieldsV1") or {})
    return _compact(fields) if fields else "{}"


def _compact(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"))
