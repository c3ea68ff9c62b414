"""The running operator: kopf's watches, the regular listing and the workers, started in the order that keeps the store true."""

import asyncio
import logging
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress

import kopf

from whisper_operator.apply.applier import Cluster
from whisper_operator.config import Settings
from whisper_operator.informer import watching as handlers
from whisper_operator.informer.cache import Store
from whisper_operator.informer.liveness import GRACE_SECONDS, Watches
from whisper_operator.kube import metrics
from whisper_operator.kube.client import connect
from whisper_operator.kube.errors import Refused, Retry
from whisper_operator.kube.objects import Key
from whisper_operator.process import logs
from whisper_operator.process.health import Health, serve
from whisper_operator.process.shutdown import LastResort
from whisper_operator.reconcile import reconcile
from whisper_operator.workqueue import WorkQueue

logger = logging.getLogger(__name__)

NAME = "whisper-operator"
NOT_LISTED_YET_SECONDS = 3.0
UNTIL_LISTED_SECONDS = 2.0
"""From when one watch lists anew to when all have: they break together."""
UNTIL_DISCOVERED_SECONDS = 2.0
"""From when the API server serves a new kind to when its discovery documents surely name it."""


async def run(settings: Settings, last_resort: LastResort) -> bool:
    """Run until SIGINT or SIGTERM, or until a part fails: then its exception. Returns whether to run anew. Raises ConfigError.

    That is so when the cluster has got a kind that it lacked: kopf looks for the resources of a new CRD when it sees that, which
    may be before the API server serves them, and then never again.
    """
    store, queue, watches, stop = Store(), WorkQueue[Key](), Watches(), asyncio.Event()
    registry = kopf.OperatorRegistry()
    handlers.register(registry, store, queue, watches)
    health = Health(store, queue, watches)

    def finish(*_: object) -> None:
        stop.set()
        last_resort.start()

    async with serve(health, settings.health_port), connect() as api:
        cluster = Cluster(api, store, watches, settings.namespaces)
        working = asyncio.create_task(_work(cluster, health, settings, finish))
        appearing = asyncio.create_task(_until_a_kind_appears(cluster))

        async def end(**_: object) -> None:
            finish()
            working.cancel()
            appearing.cancel()
            await asyncio.gather(working, appearing, return_exceptions=True)

        for task in (working, appearing):
            task.add_done_callback(finish)
        # Else kopf would wait some seconds for these tasks when it ends.
        kopf.on.cleanup(registry=registry)(end)
        await kopf.operator(
            registry=registry,
            settings=handlers.settings(settings.namespaces),
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            standalone=True,
            # Else kopf asks for the name of the user, which a container's user id need not have.
            identity=NAME,  # type: ignore[arg-type]  # a str by a private name
            stop_flag=stop,
        )
        if not working.cancelled():
            working.result()
        return not appearing.cancelled()


async def _until_a_kind_appears(cluster: Cluster) -> None:
    await cluster.kind_appeared.wait()
    await asyncio.sleep(UNTIL_DISCOVERED_SECONDS)
    logger.info("The cluster has a kind that it lacked: starting anew")


async def _work(cluster: Cluster, health: Health, settings: Settings, finish: Callable[[], None]) -> None:
    """Workers start only once every kind has been listed: until then, a child that is not in the store might well exist."""
    queue = health.queue

    async def job(key: Key) -> float | None:
        with logs.about(key):
            return await _measured(key, cluster, settings, pressed=queue.is_pressed(key))

    await _list(cluster)
    # By now kopf has set its own handlers, which would start no last resort.
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, finish)
    for key in health.store.endpoints():
        queue.add(key)
    health.working = True
    logger.info("Reconciling %d endpoints", len(queue))
    async with asyncio.TaskGroup() as group:
        group.create_task(_list_regularly(cluster, health, settings.list_again_seconds))
        group.create_task(queue.work(settings.workers, job))


async def _measured(key: Key, cluster: Cluster, settings: Settings, *, pressed: bool) -> float | None:
    start, result = time.perf_counter(), "error"
    try:
        next_look = await reconcile(key, cluster, settings, pressed=pressed)
        result = "done"
    except Retry:
        result = "retry"
        raise
    finally:
        metrics.RECONCILES.labels(result).inc()
        metrics.RECONCILE_SECONDS.observe(time.perf_counter() - start)
    return next_look


async def _list(cluster: Cluster) -> set[Key]:
    """List everything, trying until it works."""
    while True:
        try:
            return await cluster.list_everything()
        except (Retry, Refused) as error:
            logger.warning("Cannot list the cluster's objects yet: %s", error)
            await asyncio.sleep(NOT_LISTED_YET_SECONDS)


async def _list_regularly(cluster: Cluster, health: Health, seconds: float) -> None:
    """Find what the watches missed, and watches that are dead. Reads only. Soon, if a watch is known to have missed something."""
    pause = seconds * random.uniform(0.9, 1.1)
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(health.watches.began_anew.wait(), pause)
            await asyncio.sleep(min(pause, UNTIL_LISTED_SECONDS))
        health.watches.began_anew.clear()
        for key in await _list(cluster):
            health.queue.add(key)
        if health.watches.dead:
            logger.error("The watch of %s is dead: a restart is needed", ", ".join(health.watches.dead))
        grace = min(GRACE_SECONDS, seconds)
        pause = grace if health.watches.behind else seconds * random.uniform(0.9, 1.1)
