"""The side of an endpoint that faces its users: hosts, ingress class and certificates."""

from collections.abc import Mapping
from dataclasses import dataclass

from whisper_operator.spec.fields import Fields

EXTERNAL, INTERNAL = "gce", "gce-internal"
"""GKE's ingress classes: its load balancer on the internet, and the one inside the VPC network."""


@dataclass(frozen=True)
class Public:
    """How an endpoint is reached from outside the cluster."""

    hosts: tuple[str, ...]
    ingress_class: str
    annotations: Mapping[str, str]
    static_ip_name: str | None
    reserve_static_ip: bool
    tls: str
    """Where certificates come from: "managed", "secret", "preSharedCert" or "none"."""
    certificate: str | None
    """The name of the Secret, or of the pre-shared certificate."""
    https_redirect: bool
    ssl_policy: str | None
    security_policy: str | None

    @property
    def on_gke(self) -> bool:
        """Whether it is GKE's load balancer, with objects of GKE's own, and not some other controller's."""
        return self.ingress_class in (EXTERNAL, INTERNAL)

    @property
    def on_internet(self) -> bool:
        """Whether anybody can reach it, as far as the class tells."""
        return self.ingress_class != INTERNAL


def public(spec: Fields) -> Public | None:
    """None without a host: it is reached inside the cluster only."""
    host = spec.text("host")
    if host is None:
        return None
    ingress = spec.sub("ingress")
    ingress_class = ingress.text("class") or EXTERNAL
    tls = ingress.sub("tls")
    secret, shared = tls.text("secretName"), tls.text("preSharedCert")
    if secret is not None:
        mode = "secret"
    elif shared is not None:
        mode = "preSharedCert"
    else:
        mode = tls.text("mode") or ("managed" if ingress_class == EXTERNAL else "none")
    return Public(
        hosts=(host, *spec.texts("additionalHosts")),
        ingress_class=ingress_class,
        annotations=ingress.mapping("annotations"),
        static_ip_name=spec.text("staticIPName"),
        reserve_static_ip=ingress.flag("reserveStaticIP"),
        tls=mode,
        certificate=secret or shared,
        https_redirect=ingress.flag("httpsRedirect"),
        ssl_policy=ingress.text("sslPolicy"),
        security_policy=ingress.text("securityPolicy"),
    )
