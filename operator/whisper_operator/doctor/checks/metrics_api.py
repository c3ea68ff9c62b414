"""Whether the metrics are served that an endpoint's autoscaling goes by."""

from collections.abc import Iterator

from whisper_operator.doctor.facts import Facts
from whisper_operator.doctor.finding import ERROR, Finding, Gap, Result, Subject, Well, command
from whisper_operator.doctor.views import View
from whisper_operator.kube.kinds import API_SERVICE
from whisper_operator.kube.objects import condition
from whisper_operator.spec.endpoint import WhisperEndpoint

CUSTOM, RESOURCE = "custom.metrics.k8s.io", "metrics.k8s.io"
"""The groups of the requests in flight, and of the use of CPUs."""
ADVICE = {
    CUSTOM: "Install an adapter, such as prometheus-adapter or GKE's custom metrics adapter, and put its name for "
    "whisper_requests_in_flight into autoscaling.metric of the operator's configuration; or set spec.replicas in place of "
    "spec.autoscaling.",
    RESOURCE: "Install metrics-server; or set spec.replicas in place of spec.autoscaling.",
}


def check(facts: Facts, view: View) -> Iterator[Result]:
    scaling = view.endpoint.autoscaling if isinstance(view.endpoint, WhisperEndpoint) else None
    if scaling is None:
        return
    if isinstance(facts.api_services, Gap):
        yield facts.api_services.finding("Metrics API")
        return
    group = RESOURCE if scaling.in_flight is None else CUSTOM
    subject = Subject(API_SERVICE.name, group)
    stays = f"The autoscaler of {view.subject} can't see the load, and the number of replicas stays as it is"
    serving = [each for each in facts.api_services if each["spec"].get("group") == group]
    states = [condition(each.get("status") or {}, "Available") for each in serving]
    if not serving:
        yield Finding(
            ERROR,
            "MetricsAPIMissing",
            subject,
            f"{stays}: nothing serves {group} in this cluster.",
            ADVICE[group],
        )
    elif not any(each.get("status") == "True" for each in states):
        words = next(
            (str(each["message"]) for each in states if each.get("message")), "it says nothing of why"
        )
        names = [each["metadata"]["name"] for each in serving]
        yield Finding(
            ERROR,
            "MetricsAPIUnavailable",
            subject,
            f"{stays}: what serves {group} does not answer ({words}).",
            "See what is wrong with the adapter's pods.",
            command("kubectl", "describe", "apiservice", *names),
        )
    else:
        yield Well(f"{subject} is served, for autoscaling")
