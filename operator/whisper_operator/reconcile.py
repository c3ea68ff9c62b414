"""The main flow. A key is all it gets, and what woke it makes no difference: it compares what should be with what is."""

import asyncio
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime

from whisper_operator import claims, manifests
from whisper_operator.apply import upgrade
from whisper_operator.apply.applier import Applier
from whisper_operator.apply.outcome import Held
from whisper_operator.apply.plan import frozen
from whisper_operator.config import Settings
from whisper_operator.informer.cache import Cache
from whisper_operator.kube.errors import Retry
from whisper_operator.kube.objects import Key
from whisper_operator.policy import allowed
from whisper_operator.policy.amounts import NOTHING, asked
from whisper_operator.policy.rules import NO_ROOM, VIOLATION, Policy
from whisper_operator.rollouts.progress import Progress
from whisper_operator.rollouts.turn import Turn
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint
from whisper_operator.status import status
from whisper_operator.status.condition import Previous
from whisper_operator.status.conditions import rollout
from whisper_operator.status.writer import StatusWriter

logger = logging.getLogger(__name__)

DONE = None
AT_ONCE = 20
"""So many endpoints are weighed before others run, which takes milliseconds."""
ROOM_SECONDS = 300.0
"""From one look for room to the next, should nobody have told that there is some."""


async def reconcile(
    key: Key,
    cache: Cache,
    applier: Applier,
    writer: StatusWriter,
    settings: Settings,
    policy: Policy,
    *,
    backlogged: bool = False,
) -> float | None:
    """Bring one endpoint's children and status up to date; seconds until it should be looked at again, or None. Raises Retry.

    `backlogged`: others wait for their children, so that what there is to tell can wait a moment.
    """
    resource = cache.endpoint(key)
    ledger = cache.ledger
    if resource is None or "deletionTimestamp" in resource["metadata"]:
        ledger.forget(key)
        return DONE  # ownerReferences clean up
    observed = cache.observed(resource)
    endpoint: WhisperEndpoint | SpecError
    failure: Exception | None = None
    held: Held | None = None
    turn, now, progress = Turn.FREE, datetime.now(UTC), Progress()
    try:
        rules = policy.of(key[0])
        progress = Progress.of(
            *(observed, now),
            settle_seconds=settings.settle_seconds,
            server=upgrade.server(resource, rules.settings(settings)),
            fault=rollout.unmended(observed, Previous.of(resource)),
            held_by=upgrade.paused(resource, rules.settings(settings)),
            passed_over=upgrade.passed_over(resource),
        )
        cache.train.judge(key, progress)
        endpoint = allowed.parse(resource, settings, rules)
        claims.check(
            *(cache.claimed_by_others(key), key[0]),
            names_others=rules.names_others,
            exists=lambda other: cache.endpoint(other) is not None,
        )
        desired = manifests.of(endpoint, observed, settings)
        change = upgrade.of(resource, endpoint, desired, observed, progress.standing, progress.server)
        ledger.ask(resource, asked(endpoint))
        ledger.grant(key, policy, new_pods=upgrade.gives_new_pods(change) and not change.waits)
        if change.waits:
            turn = cache.train.ask(key, progress, most=settings.max_rollouts)
        due = upgrade.plan(change, turn, progress, observed, now)
        if not turn.goes:
            held = Held(turn, progress.held_by, upgrade.edited(change))
    except SpecError as error:
        endpoint, due = error, upgrade.frozen(resource, observed)  # keep what runs, say so
    except Exception as error:  # of the operator's own: to be logged and tried again, but to be told as well
        endpoint, due, failure = _own_fault(error), frozen(resource, observed), error
    if failure is None:  # else no more is known of it than before
        if isinstance(endpoint, SpecError) and not endpoint.waits_for_room:
            ledger.ask(resource, NOTHING)
        if not (isinstance(endpoint, SpecError) and endpoint.reason in claims.CONFLICTS):
            # Else it had got so far as to wait for a host, and would keep it from who has it, to be refused right after.
            cache.refuse(key, refused=_is_refused(endpoint))
        due = upgrade.unmarked(due, progress.standing, observed)
    outcome = await applier.apply(resource, due)
    if failure is None and not outcome.delays:  # else its Deployment may have been written all the same
        ledger.settle(key)
    outcome = replace(outcome, held=held, stops_others=cache.train.stops_others(key))
    if outcome.delays and not outcome.delay_lasts:
        raise Retry(outcome.delayed, outcome.retry_after, within=outcome.delay_lasts_in)
    now = datetime.now(UTC)
    report = status.of(resource, endpoint, cache.observed(resource), outcome, now)
    held_back = await writer.write(resource, report, now, backlogged=backlogged)
    if (failure := failure or outcome.fault) is not None:
        raise failure
    if outcome.delays:
        raise Retry(outcome.delayed, outcome.retry_after, within=math.inf if held_back is None else held_back)
    settles_in = progress.settles_in or None if progress.mark else None
    waits = ROOM_SECONDS if isinstance(endpoint, SpecError) and endpoint.waits_for_room else None
    looks = (outcome.next_look, report.next_look, held_back, settles_in, waits)
    return min((each for each in looks if each is not None), default=None)


async def weigh(
    keys: Iterable[Key],
    cache: Cache,
    settings: Settings,
    policy: Policy,
    leaves: Callable[[str], bool] = lambda namespace: False,
) -> None:
    """Note what these endpoints ask for, and who is refused, before the first of them is told whether there is room. Those in a
    namespace that another installation looks after (`leaves`) ask for nothing here. Others run in between."""
    for number, key in enumerate(keys):
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
        resource = cache.endpoint(key)
        if resource is None or "deletionTimestamp" in resource["metadata"] or leaves(key[0]):
            cache.ledger.forget(key)
            cache.refuse(key, refused=False)
            continue
        wanted, refused = NOTHING, False
        try:
            wanted = asked(allowed.parse(resource, settings, policy.of(key[0])))
        except SpecError as error:
            refused = _is_refused(error)
        except Exception:  # which its own look will tell of
            logger.debug("Not weighed", exc_info=True, extra={"endpoint": key})
        cache.ledger.ask(resource, wanted)
        cache.refuse(key, refused=refused)


def _is_refused(endpoint: WhisperEndpoint | SpecError) -> bool:
    """Whether the policy lets it have nothing beyond what it has."""
    return isinstance(endpoint, SpecError) and endpoint.reason in (VIOLATION, NO_ROOM)


def _own_fault(error: Exception) -> SpecError:
    return SpecError(
        "OperatorFault",
        f"The operator can't work out what this endpoint needs, by a fault of its own ({type(error).__name__}: {error}): its log "
        "has the details. What runs was left as it is, and it is tried again.",
    )
