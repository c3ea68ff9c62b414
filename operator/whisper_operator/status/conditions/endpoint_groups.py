"""Whether the pods get behind the load balancer: GKE tells by events about the Service alone when they don't."""

from datetime import datetime

from whisper_operator.kube.kinds import SERVICE
from whisper_operator.observed.children import Observed
from whisper_operator.observed.warnings import NO_GROUP, NO_SERVICE, NOT_IN_GROUP
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint
from whisper_operator.status.condition import Fault
from whisper_operator.status.conditions import standing_warnings

LASTS_SECONDS = 10.0
"""How long it has to fail: at first, groups and pods are on their way."""


def fault(endpoint: WhisperEndpoint | SpecError, observed: Observed, now: datetime) -> Fault | None:
    """What GKE fails at."""
    if isinstance(endpoint, SpecError) or endpoint.public is None or not endpoint.public.on_gke:
        return None
    for service in observed.of_kind(SERVICE):
        for warning in standing_warnings.standing(service, observed, now):
            if warning.reason in (NO_GROUP, NOT_IN_GROUP, NO_SERVICE) and warning.lasted >= LASTS_SECONDS:
                return Fault(
                    "EndpointGroupFailed",
                    f"GKE can't bring the pods of Service {service.name} behind the load balancer, which may send requests to "
                    f"pods that are gone, or to none; it tries again: {warning.words}",
                    needs_action=False,
                )
    return None
