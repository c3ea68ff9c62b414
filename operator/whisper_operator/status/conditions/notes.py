"""What Ready adds although nothing is wrong: limits of the cluster that the spec's own go beyond, and what can't be seen."""

from whisper_operator.spec.endpoint import WhisperEndpoint
from whisper_operator.status.condition import Condition

SPOT_SECONDS = 25
"""What a Spot node gives its pods when it is taken back."""

SCALE_DOWN_SECONDS = 600
"""The longest that GKE's autoscaler waits for pods of a node that it removes."""


def of(endpoint: WhisperEndpoint, conditions: list[Condition]) -> list[str]:
    """Sentences."""
    return [*_replicas(conditions), *_open(endpoint), *_time(endpoint), *_claims(endpoint)]


def _replicas(conditions: list[Condition]) -> list[str]:
    return [
        "Mind that the number of replicas does not follow the load: see AutoscalingReady."
        for each in conditions
        if each.type == "AutoscalingReady" and each.status != "True"
    ]


def _open(endpoint: WhisperEndpoint) -> list[str]:
    if endpoint.public is None or not endpoint.is_open or not endpoint.warn_of_open:
        return []
    return [
        f"Mind that whoever knows {endpoint.public.hosts[0]} may use it, at your cost: spec.auth asks for API keys."
    ]


def _claims(endpoint: WhisperEndpoint) -> list[str]:
    if endpoint.public is None or not endpoint.watched:
        return []
    return [
        f"Mind that this installation sees no namespaces but {', '.join(endpoint.watched)}: whether an endpoint elsewhere has "
        "the same host or staticIPName, it can't tell."
    ]


def _time(endpoint: WhisperEndpoint) -> list[str]:
    limit = endpoint.limits.request_timeout_seconds
    if endpoint.gpu is not None and endpoint.gpu.spot and limit > SPOT_SECONDS:
        return [
            f"Mind that a Spot node is taken back with {SPOT_SECONDS} s notice: a request that takes longer, as "
            f"limits.requestTimeoutSeconds {limit} allows, is lost then and has to be sent again."
        ]
    if limit > SCALE_DOWN_SECONDS:
        return [
            f"Mind that GKE waits {SCALE_DOWN_SECONDS} s at most for the pods of a node that it scales down: a request "
            f"that takes longer, as limits.requestTimeoutSeconds {limit} allows, may be cut off then."
        ]
    return []
