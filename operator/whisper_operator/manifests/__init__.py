"""The children that an endpoint should have: pure functions, a module per kind, no HTTP and no clock.

To add a kind: a line in kube/kinds.py, a module with `of(endpoint, ...) -> list of manifests` here, and a line in `of` below;
then what of it is the operator's own in apply/own_fields.py, and the permission in deploy/base/rbac.yaml.
"""

from whisper_operator.config import Settings
from whisper_operator.manifests import (
    autoscaler,
    backendconfig,
    computeaddress,
    deployment,
    disruptionbudget,
    frontendconfig,
    ingress,
    managedcertificate,
    monitoring,
    networkpolicy,
    service,
)
from whisper_operator.manifests.manifest import Manifest
from whisper_operator.observed.children import Observed
from whisper_operator.spec.endpoint import WhisperEndpoint

__all__ = ["Manifest", "of"]


def of(endpoint: WhisperEndpoint, observed: Observed, settings: Settings) -> tuple[Manifest, ...]:
    """Every child that should exist now, in the order to write them: what another one names comes before it.

    `observed` is for what depends on something seen in the cluster: the redirect on certificates, the number of replicas on an
    autoscaler, taking a policy off on its having been attached, and kinds that not every cluster has. `settings` are what the
    platform team decides for all endpoints.
    """
    return (
        *computeaddress.of(endpoint),
        *backendconfig.of(endpoint, observed),
        *frontendconfig.of(endpoint, observed),
        *networkpolicy.of(endpoint, settings),
        *service.of(endpoint),
        *deployment.of(endpoint, observed),
        *autoscaler.of(endpoint, settings),
        *disruptionbudget.of(endpoint),
        *monitoring.of(endpoint, observed),
        *managedcertificate.of(endpoint),
        *ingress.of(endpoint, observed),
    )
