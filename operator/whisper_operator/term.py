"""One term of a leader: its workers, from when it begins to write until it no longer may.

Before anybody is given room or upgraded, what all ask for is weighed: at the start, when another policy is in force, and in a
namespace that another installation gives up or takes. Until that is done, nobody works in the namespaces that it is about.
"""

import asyncio
import collections
import logging
from collections.abc import Collection

from prometheus_client import Counter

from whisper_operator.apply.applier import Applier
from whisper_operator.config import Settings
from whisper_operator.informer.access import Access
from whisper_operator.informer.cache import Cache
from whisper_operator.kube.client import Api
from whisper_operator.kube.errors import Retry
from whisper_operator.kube.metrics import REGISTRY
from whisper_operator.kube.objects import Key
from whisper_operator.leader.leadership import Leadership
from whisper_operator.policy.live import LivePolicy
from whisper_operator.process import logs
from whisper_operator.reconcile import reconcile, weigh
from whisper_operator.status.writer import StatusWriter
from whisper_operator.workqueue import WorkQueue

logger = logging.getLogger(__name__)

RECONCILES = Counter(
    "whisper_operator_reconciles",
    "Looks at an endpoint, by what came of them: done, retry (something passing was in the way) or error (a bug).",
    ["result"],
    registry=REGISTRY,
)


class Term:
    def __init__(
        self,
        api: Api,
        settings: Settings,
        policy: LivePolicy,
        cache: Cache,
        access: Access,
        queue: WorkQueue[Key],
        leadership: Leadership,
    ) -> None:
        """`queue`: closed, as nobody works on it until `run`."""
        self._settings = settings
        self._policy = policy
        self._cache = cache
        self._queue = queue
        self._leaves = leadership.leaves
        self._applier, self._writer = Applier(api, cache, access), StatusWriter(api, cache)
        self._news = asyncio.Queue[set[str]]()
        """Namespaces whose endpoints are to be weighed anew."""
        self._unweighed = collections.Counter[str]()
        """Those, and in how many of the news each stands."""
        self._put_off = set[Key]()
        """Who came up there meanwhile."""

    async def run(self) -> None:
        """Look at all endpoints, and work on them until cancelled."""
        self._queue.open()
        try:
            self._cache.ledger.begin(self._policy.current)
            await self._weigh(self._cache.endpoints())
            ours = [key for key in self._cache.endpoints() if not self._leaves(key[0])]
            self._cache.train.begin(ours)
            for key in ours:
                self._queue.add(key)
            logger.info("Reconciling %d endpoints", len(self._queue))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._queue.work(self._settings.workers, self._look))
                group.create_task(self._take_up())
        finally:
            self._queue.close()
            self._cache.train.end()
            self._cache.ledger.end()

    def policy_changed(self) -> None:
        """Have every endpoint looked at."""
        keys = self._cache.endpoints()
        self._cache.train.begin(key for key in keys if not self._leaves(key[0]))
        self._weigh_anew({namespace for namespace, _ in keys})

    def claim_changed(self, namespace: str) -> None:
        """Its endpoints are another installation's from now on, or this one's."""
        if not self._leaves(namespace):
            self._cache.train.join(key for key in self._cache.endpoints() if key[0] == namespace)
        self._weigh_anew({namespace})

    def _weigh_anew(self, namespaces: set[str]) -> None:
        self._unweighed.update(namespaces)
        self._news.put_nowait(namespaces)

    async def _take_up(self) -> None:
        while True:
            namespaces = await self._news.get()
            keys = [key for key in self._cache.endpoints() if key[0] in namespaces]
            await self._weigh(keys)
            self._unweighed -= collections.Counter(namespaces)
            free = namespaces - self._unweighed.keys()
            # Who came or went meanwhile was put off, or waits in the queue.
            for key in dict.fromkeys([*keys, *self._put_off]):
                if key[0] in free:
                    self._put_off.discard(key)
                    self._queue.add(key)

    async def _weigh(self, keys: Collection[Key]) -> None:
        await weigh(keys, self._cache, self._settings, self._policy.current, self._leaves)

    async def _look(self, key: Key) -> float | None:
        """A worker's job: at one endpoint; seconds until the next look, or None."""
        if key[0] in self._unweighed:
            self._put_off.add(key)
            return None
        result: str | None = "error"
        try:
            with logs.about(key), self._cache.train.look(key):
                if self._leaves(key[0]):
                    result = None
                    self._cache.ledger.forget(key)
                    return None  # it is woken when that ends
                next_look = await reconcile(
                    *(key, self._cache, self._applier, self._writer, self._settings, self._policy.current),
                    backlogged=self._queue.backlogged(key),
                )
            result = "done"
        except Retry:
            result = "retry"
            raise
        except asyncio.CancelledError:
            result = None
            raise
        finally:
            if result is not None:
                RECONCILES.labels(result).inc()
        return next_look
