"""The redirect to HTTPS, which has to wait for the certificate: a redirect without one leads nowhere."""

from whisper_operator.manifests.frontendconfig import serves_https
from whisper_operator.observed.children import Observed
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint
from whisper_operator.status.condition import Fault


def fault(endpoint: WhisperEndpoint | SpecError, observed: Observed) -> Fault | None:
    """That it is asked for, and not there yet."""
    public = endpoint.public if isinstance(endpoint, WhisperEndpoint) else None
    if public is None or not public.https_redirect:
        return None
    if isinstance(endpoint, WhisperEndpoint) and serves_https(endpoint.name, public, observed):
        return None
    return Fault(
        "RedirectPending",
        "HTTP is served, and redirected to HTTPS once the load balancer has the certificate of spec.ingress.tls; if it lasts, "
        "see the Ingress's events.",
        alarming=False,
    )
