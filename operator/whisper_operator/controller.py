"""The running operator: kopf's watches, the regular listing and the workers, started in the order that keeps the cache true."""

import asyncio
import logging
import random
import signal
from collections.abc import Callable
from contextlib import suppress

import kopf
from prometheus_client import Counter

from whisper_operator.apply.applier import Applier
from whisper_operator.config import Settings
from whisper_operator.informer import watching
from whisper_operator.informer.access import Access
from whisper_operator.informer.cache import Cache
from whisper_operator.informer.liveness import GRACE_SECONDS, Watches
from whisper_operator.informer.relist import Lister
from whisper_operator.kube.client import Api, connect
from whisper_operator.kube.errors import Retry
from whisper_operator.kube.metrics import REGISTRY
from whisper_operator.kube.objects import Key
from whisper_operator.process import logs
from whisper_operator.process.health import Health, serve
from whisper_operator.process.shutdown import ShutdownWatchdog
from whisper_operator.reconcile import reconcile
from whisper_operator.status.writer import StatusWriter
from whisper_operator.workqueue import WorkQueue

logger = logging.getLogger(__name__)

NAME = "whisper-operator"
NOT_LISTED_YET_SECONDS = 3.0
UNTIL_LISTED_SECONDS = 2.0
"""From when one watch lists anew to when all have: they break together."""
UNTIL_DISCOVERED_SECONDS = 2.0
"""From when the API server serves a new kind to when its discovery documents surely name it."""

RECONCILES = Counter(
    "whisper_operator_reconciles",
    "Looks at an endpoint, by what came of them: done, retry (something passing was in the way) or error (a bug).",
    ["result"],
    registry=REGISTRY,
)


async def run(settings: Settings, watchdog: ShutdownWatchdog) -> bool:
    """Run until SIGINT or SIGTERM, or until a part fails: then its exception. Returns whether to run anew. Raises ConfigError.

    That is so when the cluster has got a kind that it lacked: kopf looks for the resources of a new CRD when it sees that, which
    may be before the API server serves them, and then never again.
    """
    access, queue, watches, stop = Access(settings.namespaces), WorkQueue[Key](), Watches(), asyncio.Event()
    cache = Cache(access)
    registry = kopf.OperatorRegistry()
    watching.register(registry, cache, queue, watches)
    health = Health(cache, queue, watches)

    def finish(*_: object) -> None:
        stop.set()
        watchdog.start()

    async with serve(health, settings.health_port), connect() as api:
        lister = Lister(api, cache, access, watches)
        working = asyncio.create_task(_work(api, lister, access, health, settings, finish))
        appearing = asyncio.create_task(_until_a_kind_appears(access))

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
            settings=watching.settings(settings.namespaces),
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


async def _until_a_kind_appears(access: Access) -> None:
    await access.appeared.wait()
    await asyncio.sleep(UNTIL_DISCOVERED_SECONDS)
    logger.info("The cluster has a kind that it lacked: starting anew")


async def _work(
    api: Api, lister: Lister, access: Access, health: Health, settings: Settings, finish: Callable[[], None]
) -> None:
    """Workers start only once every kind has been listed: until then, a child that is not in the cache might well exist."""
    cache, queue = health.cache, health.queue
    applier, writer = Applier(api, cache, access), StatusWriter(api, cache)

    async def job(key: Key) -> float | None:
        result = "error"
        try:
            with logs.about(key):
                next_look = await reconcile(
                    key, cache, applier, writer, settings, backlogged=queue.backlogged(key)
                )
            result = "done"
        except Retry:
            result = "retry"
            raise
        finally:
            RECONCILES.labels(result).inc()
        return next_look

    await _list(lister, access)
    # By now kopf has set its own handlers, which would start no watchdog.
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, finish)
    for key in cache.endpoints():
        queue.add(key)
    health.working = True
    logger.info("Reconciling %d endpoints", len(queue))
    async with asyncio.TaskGroup() as group:
        group.create_task(_list_regularly(lister, access, health, settings.list_again_seconds))
        group.create_task(queue.work(settings.workers, job))


async def _list(lister: Lister, access: Access) -> set[Key]:
    """List everything, trying until it works."""
    while True:
        try:
            return await lister.list(access.places)
        except Retry as error:
            logger.warning("Cannot list the cluster's objects yet: %s", error)
            await asyncio.sleep(NOT_LISTED_YET_SECONDS)


async def _list_regularly(lister: Lister, access: Access, health: Health, seconds: float) -> None:
    """Find what the watches missed, and watches that are dead. Reads only. Soon, if a watch is known to have missed something."""
    pause = seconds * random.uniform(0.9, 1.1)
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(health.watches.began_anew.wait(), pause)
            await asyncio.sleep(min(pause, UNTIL_LISTED_SECONDS))
        health.watches.began_anew.clear()
        for key in await _list(lister, access):
            health.queue.add(key)
        if health.watches.dead:
            logger.error("The watch of %s is dead: a restart is needed", ", ".join(health.watches.dead))
        grace = min(GRACE_SECONDS, seconds)
        pause = grace if health.watches.behind else seconds * random.uniform(0.9, 1.1)
