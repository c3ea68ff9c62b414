"""The children that an endpoint should have: pure functions, a module per kind, no HTTP and no clock.

To add a kind: a module with `of(endpoint) -> list of manifests`, and a line in `of` below.
"""

from whisper_operator.endpoint import WhisperEndpoint
from whisper_operator.manifests import backendconfig, deployment, ingress, managedcertificate, service
from whisper_operator.manifests.manifest import Manifest
from whisper_operator.observed import Observed

__all__ = ["Manifest", "of"]


def of(endpoint: WhisperEndpoint, observed: Observed) -> tuple[Manifest, ...]:
    """Every child that should exist now, in the order to write them: what another one names comes before it.

    `observed` is for children that wait for something to be seen in the cluster first; none of today's does.
    """
    return (
        *backendconfig.of(endpoint),
        *service.of(endpoint),
        *deployment.of(endpoint),
        *managedcertificate.of(endpoint),
        *ingress.of(endpoint),
    )
