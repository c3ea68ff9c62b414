"""The main flow. A key is all it gets, and what woke it makes no difference: it compares what should be with what is."""

import asyncio
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
from whisper_operator.policy.amounts import NOTHING, asked, held
from whisper_operator.policy.ledger import Ledger
from whisper_operator.policy.rules import Policy
from whisper_operator.rollouts.progress import Progress, Standing
from whisper_operator.rollouts.turn import Turn
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint
from whisper_operator.status import status
from whisper_operator.status.condition import Previous
from whisper_operator.status.conditions import rollout
from whisper_operator.status.writer import StatusWriter

DONE = None
AT_ONCE = 20
"""Endpoints that are weighed before others run: milliseconds."""


async def reconcile(
    key: Key,
    cache: Cache,
    applier: Applier,
    writer: StatusWriter,
    settings: Settings,
    policy: Policy,
    ledger: Ledger,
    *,
    backlogged: bool = False,
) -> float | None:
    """Bring one endpoint's children and status up to date; seconds until it should be looked at again, or None. Raises Retry.

    `backlogged`: others wait for their children, so that what there is to tell can wait a moment.
    """
    resource = cache.endpoint(key)
    if resource is None or "deletionTimestamp" in resource["metadata"]:
        ledger.forget(key)
        return DONE  # ownerReferences clean up
    observed = cache.observed(resource)
    rules = policy.of(key[0])
    endpoint: WhisperEndpoint | SpecError
    failure: Exception | None = None
    turn, now = Turn.FREE, datetime.now(UTC)
    progress = Progress.of(
        *(observed, now),
        server=upgrade.server(resource, rules.settings(settings)),
        fault=rollout.unmended(observed, Previous.of(resource)),
        held_by=upgrade.paused(resource, rules.settings(settings)),
        passed_over=upgrade.passed_over(resource),
    )
    cache.train.judge(key, progress)
    try:
        endpoint = allowed.parse(resource, settings, rules)
        claims.check(cache.claimed_by_others(key), key[0], names_others=rules.names_others)
        ledger.note(resource, asked(endpoint), held(key[1], observed))
        ledger.grant(key, policy)
        desired = manifests.of(endpoint, observed, settings)
        change = upgrade.of(resource, endpoint, desired, observed, progress.standing)
        if change.waits:
            turn = cache.train.ask(key, progress, most=settings.max_rollouts)
        due = upgrade.plan(change, turn, progress, observed, now)
    except SpecError as error:
        endpoint, due = error, frozen(resource, observed)  # keep what runs, say so
    except Exception as error:  # of the operator's own: to be logged and tried again, but to be told as well
        endpoint, due, failure = _own_fault(error), frozen(resource, observed), error
    if isinstance(endpoint, SpecError) and not endpoint.waits_for_room:
        ledger.note(resource, NOTHING, held(key[1], observed))
    outcome = await applier.apply(resource, upgrade.unmarked(due, progress.standing, observed))
    outcome = replace(
        outcome,
        held=None if turn.goes else Held(turn, progress.held_by, upgrade.edited(change)),
        stops_others=progress.standing is Standing.FAILED,
    )
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
    looks = (outcome.next_look, report.next_look, held_back, settles_in)
    return min((each for each in looks if each is not None), default=None)


async def weigh(
    keys: Iterable[Key],
    cache: Cache,
    settings: Settings,
    policy: Policy,
    ledger: Ledger,
    leaves: Callable[[str], bool] = lambda namespace: False,
) -> None:
    """Note what these endpoints ask for and have, before the first of them is told whether there is room. Of those in a namespace
    that another installation looks after (`leaves`), what they have counts. Others run in between."""
    for number, key in enumerate(keys):
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
        resource = cache.endpoint(key)
        if resource is None:
            ledger.forget(key)
            continue
        try:
            wanted = (
                NOTHING if leaves(key[0]) else asked(allowed.parse(resource, settings, policy.of(key[0])))
            )
        except Exception:  # which its own look will tell of
            wanted = NOTHING
        ledger.note(resource, wanted, held(key[1], cache.observed(resource)))


def _own_fault(error: Exception) -> SpecError:
    return SpecError(
        "OperatorFault",
        f"The operator can't work out what this endpoint needs, by a fault of its own ({type(error).__name__}: {error}): its log "
        "has the details. What runs was left as it is, and it is tried again.",
    )
