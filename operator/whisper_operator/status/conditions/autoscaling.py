"""The condition AutoscalingReady: whether the autoscaler has something to go by, in its own words."""

from whisper_operator.kube.kinds import AUTOSCALER
from whisper_operator.kube.objects import condition
from whisper_operator.observed.children import Observed
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint
from whisper_operator.status.condition import Condition

DOWN = ("currently unable to handle the request", "no known available metric versions found")
"""What the autoscaler says where something should serve the metrics API that it asks, and does not answer."""

PENDING = "AutoscalerPending"
"""The reason while there is no autoscaler at work yet."""

NO_API = ("no custom metrics API", "could not find the requested resource", *DOWN)
"""What it says where nothing serves it, too."""


def conditions(endpoint: WhisperEndpoint | SpecError, observed: Observed) -> list[Condition]:
    """AutoscalingReady, where there is or should be an autoscaler."""
    autoscaler = next((child for child in observed.of_kind(AUTOSCALER) if not child.deleting), None)
    if isinstance(endpoint, WhisperEndpoint) and endpoint.autoscaling is None:
        return []
    if autoscaler is None:
        return (
            [] if isinstance(endpoint, SpecError) else [_pending("There is no HorizontalPodAutoscaler yet.")]
        )
    active = condition(autoscaler.status, "ScalingActive")
    able = condition(autoscaler.status, "AbleToScale")
    if able.get("status") == "False":
        return [_not_ready(str(able.get("reason")), str(able.get("message")))]
    if active.get("status") == "True":
        message = "The number of replicas follows the load."
        return [Condition("AutoscalingReady", "True", "Active", message)]
    if not active or active.get("reason") == "ScalingDisabled":
        return [_pending("The autoscaler has not looked at the replicas yet.")]
    words = str(active.get("message", ""))
    if any(phrase in words for phrase in NO_API):
        return [_no_api(words)]
    check = "see whether their metrics are collected"
    if "cpu" not in words:
        check += (
            ", and whether autoscaling.metric in the operator's configuration is what the adapter calls them"
        )
    return [
        _not_ready(
            "NoMetrics",
            f"The metrics API has no figures of the replicas, whose number stays as it is: {words}. New replicas take a "
            f"minute or two to have some; if it lasts, {check}.",
        )
    ]


def serves_all_the_same(condition: Condition) -> bool:
    """Whether it says of an autoscaler that it does not see the load: the least number of replicas serves, and stays."""
    return condition.type == "AutoscalingReady" and condition.reason != PENDING


def _no_api(words: str) -> Condition:
    cpu = "cpu" in words
    advice = (
        "install metrics-server"
        if cpu
        else "install an adapter that serves the custom metrics API, such as prometheus-adapter or GKE's custom metrics adapter, "
        "and put its name for whisper_requests_in_flight into autoscaling.metric of the operator's configuration"
    )
    return _not_ready(
        "NoMetricsAPI",
        f"The autoscaler can't see the load, and the number of replicas stays as it is: {advice}; or set replicas instead of "
        f"autoscaling. It says: {words}",
        needs_action=not any(phrase in words for phrase in DOWN),  # it may come back by itself
    )


def _pending(message: str) -> Condition:
    return _not_ready(PENDING, message)


def _not_ready(reason: str, message: str, *, needs_action: bool = False) -> Condition:
    return Condition("AutoscalingReady", "False", reason, message, needs_action)
