"""Available, and how far the Deployment has come with the current spec; what its pods say of that is in `pods`."""

import re

from whisper_operator.kube.kinds import DEPLOYMENT, SERVICE
from whisper_operator.kube.objects import condition
from whisper_operator.observed.children import Child, Observed
from whisper_operator.rollouts.progress import LATE
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint
from whisper_operator.status.condition import SUSPENDED, Condition, Fault, Previous
from whisper_operator.status.conditions import pod_admission, pods
from whisper_operator.status.conditions.pod_messages import About

STUCK = "RolloutStuck"


def available(endpoint: WhisperEndpoint | SpecError, observed: Observed, previous: Previous) -> Condition:
    """Whether requests are served, by old pods too."""
    deployment = _deployment(observed)
    serving = deployment.status.get("availableReplicas", 0) if deployment else 0
    if serving and deployment:
        wanted = deployment.spec.get("replicas", 1)
        if not observed.of_kind(SERVICE) and SERVICE not in observed.unreadable:
            words = (
                f"There is no Service: {serving} of {wanted} replicas are ready, and no request reaches them."
            )
            return Condition("Available", "False", "NotDeployed", words)
        return Condition("Available", "True", "Serving", f"{serving} of {wanted} replicas serve requests.")
    if deployment is None:
        return Condition("Available", "False", "NotDeployed", "There is no Deployment yet.")
    if isinstance(endpoint, WhisperEndpoint) and endpoint.suspend:
        return Condition("Available", "False", SUSPENDED, "spec.suspend is true: nothing runs.")
    if isinstance(endpoint, SpecError) and deployment.spec.get("replicas", 1) == 0:
        return Condition("Available", "False", SUSPENDED, "Nothing is asked to run.")
    trouble = _trouble(endpoint, deployment, observed, previous)
    message = f"No replica is ready yet. {trouble.message if trouble else ''}".strip()
    return Condition("Available", "False", "NoReplicaReady", message)


def fault(endpoint: WhisperEndpoint | SpecError, observed: Observed, previous: Previous) -> Fault | None:
    """Why not all replicas of the current spec serve, and no others; None if they do."""
    deployment = _deployment(observed)
    if deployment is None:
        return Fault("NotDeployed", "There is no Deployment yet.", needs_action=False)
    live, wanted = deployment.status, deployment.spec.get("replicas", 1)
    asked, scales = wanted, False
    if isinstance(endpoint, WhisperEndpoint) and endpoint.autoscaling is not None:
        # More are on their way when the load asks for them.
        wanted, scales = min(wanted, endpoint.autoscaling.minimum), True
    if live.get("observedGeneration", 0) < deployment.generation:
        return Fault("RollingOut", "The Deployment has not taken up the change yet.", needs_action=False)
    if isinstance(endpoint, WhisperEndpoint) and endpoint.autoscaling is None and wanted != endpoint.replicas:
        words = f"The Deployment has {wanted} replicas still, and gets {endpoint.replicas} next."
        return Fault("RollingOut", words, needs_action=False)
    running = live.get("replicas", 0)
    updated, serving = live.get("updatedReplicas", 0), live.get("availableReplicas", 0)
    late = _is_late(deployment)
    is_done = updated >= wanted and serving >= wanted and running <= updated and not late
    if is_done and running > asked and not scales:
        words = f"{running} replicas run still, where {asked} are asked for: the others are being stopped."
        return Fault("RollingOut", words, needs_action=False)
    if is_done and serving >= asked:
        return None
    trouble = _trouble(endpoint, deployment, observed, previous)
    if is_done:
        return None if trouble is None else _short_of(asked, serving, trouble)
    if late and (trouble is None or trouble.reason == "Unschedulable"):
        minutes = deployment.spec.get("progressDeadlineSeconds", 600) // 60
        return _stuck(About.of(endpoint, deployment.namespace), minutes, trouble)
    if trouble is not None:
        return Fault(trouble.reason, trouble.message, trouble.needs_action or late)
    return Fault(
        "RollingOut",
        f"{updated} of {wanted} replicas are of the current spec, {serving} serve.",
        needs_action=False,
    )


def unmended(observed: Observed, previous: Previous) -> str:
    """The reason for which somebody has to mend the pods of the Deployment, whatever else the endpoint lacks; "": nobody has."""
    deployment = _deployment(observed)
    if deployment is None or deployment.status.get("observedGeneration", 0) < deployment.generation:
        return ""
    trouble = _trouble(None, deployment, observed, previous)
    late = _is_late(deployment)
    if late and (trouble is None or trouble.reason == "Unschedulable"):
        return STUCK
    return trouble.reason if trouble is not None and (trouble.needs_action or late) else ""


def _is_late(deployment: Child) -> bool:
    return condition(deployment.status, "Progressing").get("reason") == LATE


def _short_of(asked: int, serving: int, trouble: Fault) -> Fault:
    """Of what the autoscaler asks for beyond the least; should the load fall, that is nobody's trouble any more."""
    words = f"The autoscaler asks for {asked} replicas, and {serving} serve. {trouble.message}"
    return Fault(trouble.reason, words, needs_action=False)


def _stuck(about: About, minutes: int, trouble: Fault | None) -> Fault:
    said = f" {trouble.message}" if trouble else f" See kubectl get events -n {about.namespace}."
    proposal = ""
    if about.gpu and about.without_spare and about.without_spare not in said:
        proposal = f" If one more GPU is not to be had for the change, set {about.without_spare}."
    return Fault(STUCK, f"The rollout made no progress for {minutes} minutes.{proposal}{said}")


def _trouble(
    endpoint: WhisperEndpoint | SpecError | None, deployment: Child, observed: Observed, previous: Previous
) -> Fault | None:
    """What is wrong with pods, or with making them."""
    about = About.of(endpoint, deployment.namespace)
    failure = condition(deployment.status, "ReplicaFailure")
    if failure.get("status") == "True":
        # Each try has a name of its own.
        words = re.sub(r'pods "[^"]*" is forbidden', "pods are forbidden", str(failure.get("message", "")))
        return pod_admission.refused(deployment.namespace, deployment.name, words)
    return pods.fault(about, observed, previous)


def _deployment(observed: Observed) -> Child | None:
    return next(iter(observed.of_kind(DEPLOYMENT)), None)
