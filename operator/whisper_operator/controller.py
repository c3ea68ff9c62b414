"""The running operator: kopf's watches, the regular listing and the workers, started in the order that keeps the store true."""

import asyncio
import logging
import random

import kopf

from whisper_operator import handlers
from whisper_operator.api import Refused, connect
from whisper_operator.cluster import Cluster
from whisper_operator.config import Settings
from whisper_operator.reconcile import reconcile
from whisper_operator.store import Key, Store
from whisper_operator.workqueue import Retry, WorkQueue

logger = logging.getLogger(__name__)

NAME = "whisper-operator"
LIST_AGAIN_SECONDS = 600.0
NOT_LISTED_YET_SECONDS = 3.0
UNTIL_DISCOVERED_SECONDS = 2.0
"""From when the API server serves a new kind to when its discovery documents surely name it."""


async def run(settings: Settings) -> bool:
    """Run until SIGINT or SIGTERM, or until a part fails: then its exception. Returns whether to run anew.

    That is so when the cluster has got a kind that it lacked: kopf looks for the resources of a new CRD when it sees that, which
    may be before the API server serves them, and then never again.
    """
    store, queue, stop = Store(), WorkQueue[Key](), asyncio.Event()
    registry = kopf.OperatorRegistry()
    handlers.register(registry, store, queue)
    async with connect() as api:
        cluster = Cluster(api, store)
        working = asyncio.create_task(_work(cluster, store, queue, settings))
        appearing = asyncio.create_task(_until_a_kind_appears(cluster))

        async def end(**_: object) -> None:
            working.cancel()
            appearing.cancel()
            await asyncio.gather(working, appearing, return_exceptions=True)

        for task in (working, appearing):
            task.add_done_callback(lambda _: stop.set())
        # Else kopf would wait some seconds for these tasks when it ends.
        kopf.on.cleanup(registry=registry)(end)
        await kopf.operator(
            registry=registry,
            settings=handlers.settings(),
            clusterwide=True,
            standalone=True,
            # Else kopf asks for the name of the user, which a container's user id need not have.
            identity=NAME,  # type: ignore[arg-type]  # a str by a private name
            liveness_endpoint=f"http://0.0.0.0:{settings.health_port}/healthz",
            stop_flag=stop,
        )
        if not working.cancelled():
            working.result()
        return not appearing.cancelled()


async def _until_a_kind_appears(cluster: Cluster) -> None:
    await cluster.kind_appeared.wait()
    await asyncio.sleep(UNTIL_DISCOVERED_SECONDS)
    logger.info("The cluster has a kind that it lacked: starting anew")


async def _work(cluster: Cluster, store: Store, queue: WorkQueue[Key], settings: Settings) -> None:
    """Workers start only once every kind has been listed: until then, a child that is not in the store might well exist."""
    await _list(cluster)
    for key in store.endpoints():
        queue.add(key)
    logger.info("Reconciling %d endpoints", len(queue))
    async with asyncio.TaskGroup() as group:
        group.create_task(_list_regularly(cluster, queue))
        group.create_task(queue.work(settings.workers, lambda key: reconcile(key, cluster, settings)))


async def _list(cluster: Cluster) -> set[Key]:
    """List everything, trying until it works."""
    while True:
        try:
            return await cluster.list_everything()
        except (Retry, Refused) as error:
            logger.warning("Cannot list the cluster's objects yet: %s", error)
            await asyncio.sleep(NOT_LISTED_YET_SECONDS)


async def _list_regularly(cluster: Cluster, queue: WorkQueue[Key]) -> None:
    """Find what the watches missed. Reads only."""
    while True:
        await asyncio.sleep(LIST_AGAIN_SECONDS * random.uniform(0.9, 1.1))
        for key in await _list(cluster):
            queue.add(key)
