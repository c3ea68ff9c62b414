"""What the controllers share: the copies of the cluster, who refers to whom, settings, and what exists in the pretended cloud."""

import hashlib
import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from devcluster.gke import settings
from devcluster.gke.client import Client, Object
from devcluster.gke.events import Recorder
from devcluster.gke.settings import Settings
from devcluster.gke.store import Collection, Key, References, annotations_of
from devcluster.gke.workqueue import WorkQueue

log = logging.getLogger(__name__)

CLASS = "kubernetes.io/ingress.class"
MANAGED_CERTIFICATES = "networking.gke.io/managed-certificates"
PRE_SHARED_CERT = "ingress.gcp.kubernetes.io/pre-shared-cert"
SSL_CERT = "ingress.kubernetes.io/ssl-cert"
FRONTEND_CONFIG = "networking.gke.io/v1beta1.FrontendConfig"
BACKEND_CONFIG = "cloud.google.com/backend-config"
NEG = "cloud.google.com/neg"
NEG_STATUS = "cloud.google.com/neg-status"
SERVICE_NAME = "kubernetes.io/service-name"

DEFAULT_BACKEND: Key = ("kube-system", "default-http-backend")


@dataclass
class SslCertificate:
    """A certificate in the pretended project, made for a ManagedCertificate."""

    name: str
    domains: tuple[str, ...]
    made: bool = False
    """Whether it is there, and not just to be: Ingresses name it before."""
    attached_at: float | None = None
    """When it was first seen on a load balancer (monotonic)."""
    doomed_at: float | None = None
    """When it was found to be no longer wanted (monotonic); it is deleted once no load balancer uses it."""


@dataclass
class Attached:
    """The policies that a load balancer has; "" for none."""

    ssl: str = ""
    security: dict[str, str] = field(default_factory=dict)
    """By Service."""


@dataclass
class World:
    """One cluster as the stand-in sees it."""

    client: Client
    recorder: Recorder
    queue: WorkQueue
    cluster_id: str
    ingresses: Collection = field(
        default_factory=lambda: Collection("apis/networking.k8s.io/v1", "ingresses", "Ingress")
    )
    services: Collection = field(default_factory=lambda: Collection("api/v1", "services", "Service"))
    slices: Collection = field(
        default_factory=lambda: Collection("apis/discovery.k8s.io/v1", "endpointslices", "EndpointSlice")
    )
    certificates: Collection = field(
        default_factory=lambda: Collection(
            "apis/networking.gke.io/v1", "managedcertificates", "ManagedCertificate"
        )
    )
    frontends: Collection = field(
        default_factory=lambda: Collection(
            "apis/networking.gke.io/v1beta1", "frontendconfigs", "FrontendConfig"
        )
    )
    backends: Collection = field(
        default_factory=lambda: Collection("apis/cloud.google.com/v1", "backendconfigs", "BackendConfig")
    )
    unscheduled: Collection = field(
        default_factory=lambda: Collection("api/v1", "pods?fieldSelector=spec.nodeName=", "Pod")
    )
    """Pods that wait for a node."""
    config_maps: Collection = field(default_factory=lambda: Collection("api/v1", "configmaps", "ConfigMap"))

    by_service: References = field(default_factory=lambda: References(services_of))
    by_certificate: References = field(default_factory=lambda: References(certificates_of))
    by_ssl: References = field(default_factory=lambda: References(_ssl_of))
    by_frontend: References = field(default_factory=lambda: References(_frontends_of))
    services_by_backend: References = field(default_factory=lambda: References(backend_configs_of))
    slices_by_service: References = field(default_factory=lambda: References(_services_of_slice))

    ssl: dict[Key, SslCertificate] = field(default_factory=dict)
    """The certificates of the pretended project, by ManagedCertificate."""
    doomed: set[Key] = field(default_factory=set)
    """Namespace and SSL certificate's name of those that are being deleted."""
    unmade: set[Key] = field(default_factory=set)
    """The same of those that Google has not made yet."""
    policies: dict[Key, Attached] = field(default_factory=dict)
    """By Ingress."""
    since: dict[tuple[str, str], float] = field(default_factory=dict)
    """When something began, by object uid and what (monotonic)."""
    _settings: dict[str, Settings] = field(default_factory=dict)

    def settings(self, namespace: str) -> Settings:
        """What holds for objects in that namespace."""
        if namespace not in self._settings:
            data: dict[str, str] = {}
            for place in dict.fromkeys((settings.SYSTEM_NAMESPACE, namespace)):
                data |= (self.config_maps.get((place, settings.CONFIG_MAP)) or {}).get("data") or {}
            self._settings[namespace], complaints = settings.parse(data)
            for complaint in complaints:
                log.warning("ConfigMap %s for namespace %s: %s", settings.CONFIG_MAP, namespace, complaint)
        return self._settings[namespace]

    def settings_changed(self) -> None:
        """A ConfigMap of settings has changed."""
        self._settings.clear()

    def seconds_left(self, item: Object, what: str, seconds: float) -> float:
        """How much of `seconds` is left since this was first asked of the object; 0 when over."""
        began = self.since.setdefault((item["metadata"]["uid"], what), time.monotonic())
        return max(0.0, began + seconds - time.monotonic())

    def forget(self, item: Object) -> None:
        """The object is gone."""
        uid = item["metadata"]["uid"]
        self.recorder.forget(uid)
        for key in [key for key in self.since if key[0] == uid]:
            del self.since[key]

    def neg_name(self, service: Key, port: int) -> str:
        """The name of the network endpoint group of a Service's port."""
        namespace, name = service
        suffix = short_hash(self.cluster_id, namespace, name, str(port))
        return f"k8s1-{self.cluster_id}-{namespace[:14]}-{name[:14]}-{port}-{suffix}"


def is_gce(ingress: Object) -> bool:
    """Does GKE's external load balancer look after this Ingress? An ingressClassName alone never makes it do so."""
    class_name = annotations_of(ingress).get(CLASS, "")
    return class_name == "gce" or (class_name == "" and ingress["spec"].get("ingressClassName") is None)


def backends_of(ingress: Object) -> list[tuple[str, str | int]]:
    """Name and port (a number or a name) of each Service that an Ingress sends requests to."""
    spec = ingress["spec"]
    found = [
        path["backend"] for rule in spec.get("rules", []) for path in rule.get("http", {}).get("paths", [])
    ]
    if "defaultBackend" in spec:
        found.append(spec["defaultBackend"])
    services = [backend["service"] for backend in found if "service" in backend]
    return [
        (service["name"], service["port"].get("number", service["port"].get("name", "")))
        for service in services
    ]


def services_of(ingress: Object) -> Iterable[str]:
    """Names of the Services that a load balancer of ours sends requests to."""
    return {name for name, _ in backends_of(ingress)} if is_gce(ingress) else ()


def certificates_of(ingress: Object) -> list[str]:
    """Names of the ManagedCertificates that an Ingress of ours asks for."""
    return split(annotations_of(ingress).get(MANAGED_CERTIFICATES, "")) if is_gce(ingress) else []


def backend_configs_of(service: Object) -> list[str]:
    """Names of the BackendConfigs that a Service's annotation names; none if it can't be read."""
    try:
        value = json.loads(annotations_of(service).get(BACKEND_CONFIG, "{}"))
        return [name for name in (value.get("default"), *value.get("ports", {}).values()) if name]
    except (ValueError, AttributeError):
        return []


def neg_for_ingress(service: Object) -> bool:
    """Does the Service's annotation ask for network endpoint groups?"""
    try:
        return bool(json.loads(annotations_of(service).get(NEG, "{}")).get("ingress"))
    except (ValueError, AttributeError):
        return False


def split(text: str) -> list[str]:
    """The items of a comma-separated list, blanks removed."""
    return [item.strip() for item in text.split(",") if item.strip()]


def short_hash(*parts: str) -> str:
    """Eight characters that differ where the parts do."""
    return hashlib.sha256(";".join(parts).encode()).hexdigest()[:8]


def _ssl_of(ingress: Object) -> set[str]:
    annotations = annotations_of(ingress)
    return {name for key in (PRE_SHARED_CERT, SSL_CERT) for name in split(annotations.get(key, ""))}


def _frontends_of(ingress: Object) -> list[str]:
    return split(annotations_of(ingress).get(FRONTEND_CONFIG, ""))


def _services_of_slice(item: Object) -> list[str]:
    return split(item["metadata"].get("labels", {}).get(SERVICE_NAME, ""))
