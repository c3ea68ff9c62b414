"""What keeps a spec from being written to the cluster at all."""

from whisper_operator.apply.fights import REPLICAS
from whisper_operator.apply.outcome import Fight, Outcome
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint
from whisper_operator.status.condition import Fault


def fault(endpoint: WhisperEndpoint | SpecError, outcome: Outcome) -> Fault | None:
    """The first of them."""
    if isinstance(endpoint, SpecError):  # nothing is written but a suspension
        failed = (*outcome.refusals, *(outcome.delays if outcome.delay_lasts else ()))
        told = [f"And {what} failed, and is tried again: {why}" for what, why in failed]
        told += [_fought_about(outcome.fights).message] if outcome.fights else []
        waits = endpoint.waits_for_room and not told
        return Fault(endpoint.reason, " ".join([endpoint.message, *told]), needs_action=not waits)
    if outcome.names_taken:
        names = ", ".join(f"{manifest.kind.qualified} {manifest.name}" for manifest in outcome.names_taken)
        reserved = any(not manifest.kind.owned for manifest in outcome.names_taken)
        remedy = (
            "the address is reserved already, leave out ingress.reserveStaticIP"
            if reserved
            else "delete or rename it, or name the endpoint differently"
        )
        return Fault(
            "NameConflict",
            f"An object that is not this endpoint's has the name of one of its own: {names}. It was not touched, and "
            f"nothing was written that needs it: {remedy}.",
        )
    if outcome.missing_kinds:
        names = ", ".join(kind.qualified for kind in outcome.missing_kinds)
        return Fault(
            "KindNotInstalled",
            f"The cluster does not have {names}. GKE has what a public endpoint needs; elsewhere, set ingress.class to that of "
            "an ingress controller. ingress.reserveStaticIP needs Config Connector. Without spec.host no such kind is needed.",
        )
    if outcome.refusals:
        text = "; ".join(f"{what}: {words}" for what, words in outcome.refusals)
        return Fault(
            "ApplyRefused",
            f"The API server refused {text}. Correct what it names, in spec or in the cluster: it is tried again every half "
            "minute.",
        )
    if outcome.delay_lasts:
        return Fault(
            "ApplyDelayed",
            f"Not all could be written yet, which is tried again, within 5 minutes at the latest: {outcome.delayed}",
            needs_action=False,
        )
    if outcome.fights:
        return _fought_about(outcome.fights)
    if outcome.waiting:
        return Fault(
            "DeletionPending",
            f"Waiting until it is deleted: {', '.join(outcome.waiting)}.",
            needs_action=False,
        )
    return None


def _fought_about(fights: tuple[Fight, ...]) -> Fault:
    """Of what somebody else changes each time that it was put right."""
    text = "; ".join(
        f"{each.field} of {each.what} is {f'set by {each.editor}' if each.editor else 'taken away'}"
        if each.field
        else f"{each.what} is deleted"
        for each in fights
    )
    scaled = any(each.field == REPLICAS for each in fights)
    remedy = (
        "If it is a HorizontalPodAutoscaler (kubectl get hpa), delete it: spec.autoscaling makes one that the operator knows of."
        if scaled
        else "Have that leave it alone, or say in spec what it is to be."
    )
    return Fault(
        "FieldContested",
        f"Somebody else changes again and again what the operator puts right, each time later: {text}. {remedy}",
    )
