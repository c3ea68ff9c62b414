"""The main flow. A key is all it gets, and what woke it makes no difference: it compares what should be with what is."""

from datetime import UTC, datetime

from whisper_operator import claims, manifests
from whisper_operator.apply import plan as drift
from whisper_operator.apply.applier import Cluster
from whisper_operator.apply.outcome import Outcome
from whisper_operator.config import Settings
from whisper_operator.kube.objects import Key
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint, parse
from whisper_operator.status import status

DONE = None


async def reconcile(key: Key, cluster: Cluster, settings: Settings, *, pressed: bool = False) -> float | None:
    """Bring one endpoint's children and status up to date; seconds until it should be looked at again, or None. Raises Retry.

    `pressed`: others wait for their children, so that what there is to tell can wait a moment.
    """
    resource = cluster.cached(key)
    if resource is None or "deletionTimestamp" in resource["metadata"]:
        return DONE  # ownerReferences clean up
    observed = cluster.observe(resource)
    endpoint: WhisperEndpoint | SpecError
    try:
        endpoint = parse(resource, settings)
        claims.check(cluster.claimed_by_others(resource))
        plan = drift.plan(manifests.of(endpoint, observed, settings), observed)
        outcome = await cluster.carry_out(resource, plan)
    except SpecError as error:
        endpoint, outcome = error, Outcome()  # plan nothing, keep what runs, say so
    now = datetime.now(UTC)
    report = status.of(resource, endpoint, cluster.observe(resource), outcome, now)
    held_back = await cluster.report(resource, report, now, pressed=pressed)
    return min(
        (each for each in (outcome.next_look, report.next_look, held_back) if each is not None), default=None
    )
