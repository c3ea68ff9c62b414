"""The running operator: kopf's watches, the lists and the workers, started in the order that keeps the cache true."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

import kopf

from whisper_operator.config import Settings
from whisper_operator.informer import watching
from whisper_operator.informer.access import Access, Place
from whisper_operator.informer.cache import Cache
from whisper_operator.informer.gate import Gate
from whisper_operator.informer.liveness import GRACE_SECONDS, Watches
from whisper_operator.informer.relist import Lister, WentBack, names
from whisper_operator.kube.client import Api
from whisper_operator.kube.credentials import connect, namespace, service_account
from whisper_operator.kube.errors import Retry
from whisper_operator.kube.kinds import ENDPOINT
from whisper_operator.kube.objects import Key
from whisper_operator.leader.leadership import Leadership
from whisper_operator.leader.leases import REQUEST_SECONDS
from whisper_operator.policy.live import LOOK_SECONDS as POLICY_SECONDS
from whisper_operator.policy.live import LivePolicy
from whisper_operator.process.health import Health, serve
from whisper_operator.process.shutdown import ShutdownWatchdog
from whisper_operator.term import Term
from whisper_operator.workqueue import WorkQueue

logger = logging.getLogger(__name__)

NAME = "whisper-operator"
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0
"""From one try to list while the API server can't be asked to the next, in seconds."""
CATCH_UP_SECONDS = 5.0
"""That a new leader waits for a kind of children that hangs, to see what the last one wrote. What it can't see it might write
once more, which changes nothing; what it would make has to be absent, or the API server refuses it."""
PATIENCE_SECONDS = 15.0
"""That all endpoints wait at the start for a kind that can't be listed: of what was never seen nothing can be kept."""
LOOK_SECONDS = 2.0
"""From one look at the watches to the next."""
UNTIL_ANEW_SECONDS = 30.0
"""That a run lasts at the least before another begins: nothing that can't be had is tried for all the time."""


async def run(settings: Settings, policy: LivePolicy, watchdog: ShutdownWatchdog) -> bool:
    """Run until SIGINT or SIGTERM, or until a part fails: then its exception. Returns whether to run anew.

    That is so when kopf does not watch what can be listed: it looks for the resources of a new CRD when it sees that, which may
    be before the API server serves them, and then never again. And when the cluster is as it was once before.
    Raises ConfigError, NoCluster.
    """
    async with connect() as api, connect(REQUEST_SECONDS) as leases:
        running = _Running(api, settings, policy, leases, namespace())
        async with serve(running.health, settings.health_port):
            return await running.run(watchdog)


class _Running:
    """One run: all that is made for it, and goes with it."""

    def __init__(self, api: Api, settings: Settings, policy: LivePolicy, leases: Api, namespace: str) -> None:
        self.api = api
        self.settings = settings
        self.policy = policy
        is_one = len(settings.namespaces) == 1  # and all workers are for it
        self.queue = WorkQueue[Key]((lambda key: key) if is_one else (lambda key: key[0]))
        self.queue.close()
        self.access = Access(settings.namespaces)
        self.cache = Cache(self.access, self.queue.add)
        grace = min(GRACE_SECONDS, settings.list_again_seconds)
        self.watches = Watches(self.access, lambda place: self.lister.soon(place), grace)
        seconds = settings.list_again_seconds
        self.lister = Lister(api, self.cache, self.access, self.watches, seconds, self.queue.add)
        self.told_to_end = False
        self.leadership = Leadership(
            *(leases, api, namespace, settings.namespaces, self._claim_changed),
            service_account=service_account(),
        )
        api.may_write = self.leadership.may_write
        self.cache.train.leaves = self._leaves
        self.cache.train.later = lambda *what: asyncio.get_running_loop().call_later(*what)
        self.term: Term | None = None
        """While this replica leads."""
        self.health = Health(self.cache, self.queue, self.access, self.watches, self.leadership)

    async def run(self, watchdog: ShutdownWatchdog) -> bool:
        stop = asyncio.Event()
        registry = kopf.OperatorRegistry()
        base = urlsplit(self.api.server).path.rstrip("/")
        gate = Gate(self.watches, self.access.places, self.cache.concerns, base)
        watching.register(registry, self.api, gate, self.cache, self.queue, self.watches)

        def finish(*_: object) -> None:
            stop.set()
            gate.end()
            watchdog.start()

        def told_to_end() -> None:
            self.told_to_end = True  # though it may be ending already, to begin anew
            finish()
            if not working.cancelling():  # at once: the next leader waits for it
                working.cancel()

        working = asyncio.create_task(self._work(told_to_end))
        working.add_done_callback(finish)

        async def end(**_: object) -> None:
            finish()
            if not working.cancelling():  # else it would end before it has given back what it holds
                working.cancel()
            await asyncio.gather(working, return_exceptions=True)

        # Else kopf would wait some seconds for this task when it ends.
        kopf.on.cleanup(registry=registry)(end)
        await kopf.operator(
            registry=registry,
            settings=watching.settings(self.settings.namespaces),
            clusterwide=not self.settings.namespaces,
            namespaces=self.settings.namespaces,
            standalone=True,
            # Else kopf asks for the name of the user, which a container's user id need not have.
            identity=NAME,  # type: ignore[arg-type]  # a str by a private name
            stop_flag=stop,
        )
        return not working.cancelled() and working.result() and not self.told_to_end

    async def _work(self, finish: Callable[[], None]) -> bool:
        """Workers start only once every kind has been listed: until then, a child that is not in the cache might well exist.

        Returns when all has to begin anew.
        """
        await self.watches.settle()
        await self._list_at_first()
        # By now kopf has set its own handlers, which would start no watchdog.
        for sign in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(sign, finish)
        self.health.working = True
        leading = asyncio.create_task(self.leadership.run(self._lead))
        following = asyncio.create_task(self._follow_policy())
        keeping = asyncio.create_task(self._keep_true())
        tasks = (leading, following, keeping)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for endless in (leading, following):
                if endless.done():
                    endless.result()  # which is an exception
            return keeping.result()
        except WentBack:
            logger.warning("The cluster is as it was once before, as after a restore: starting anew")
            return True
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _lead(self) -> None:
        """Look at all endpoints, and work on them until cancelled. Raises WentBack."""
        # What the leader before us wrote is to be seen before anything is written: a watch may be behind.
        behind = self.lister.behind(self.leadership.predecessor)
        await self._list(
            [place for place in behind if place[0] is ENDPOINT]
        )  # or an old spec would be written
        try:
            async with asyncio.timeout(CATCH_UP_SECONDS):
                await self._list([place for place in behind if place[0] is not ENDPOINT])
        except TimeoutError:
            logger.info("Not all has been seen that the last leader wrote: going on all the same")
            for place in self.lister.behind(self.leadership.predecessor):
                self.lister.soon(place)
        what = (self.policy, self.cache, self.access, self.queue, self.leadership)
        self.term = Term(self.api, self.settings, *what)
        try:
            await self.term.run()
        finally:
            self.term = None

    def _claim_changed(self, namespace: str) -> None:
        """Its endpoints are another installation's from now on, or this one's; "": all are, which begins a term or ends it."""
        if self.term is not None:
            self.term.claim_changed(namespace)

    def _leaves(self, namespace: str) -> bool:
        """Whether its endpoints are not this replica's to work on: only the leader counts and tells of them."""
        return not self.leadership.leads or self.leadership.leaves(namespace)

    async def _follow_policy(self) -> None:
        """Have every endpoint looked at once another policy is in force."""
        while True:
            await asyncio.sleep(POLICY_SECONDS)
            read = await asyncio.to_thread(self.policy.read)  # of a large file, longer than a Lease may wait
            if self.policy.take(read) and self.term is not None:
                self.term.policy_changed()

    async def _keep_true(self) -> bool:
        """List what the watches may have missed, until all has to begin anew. Raises WentBack."""
        start, dead = time.monotonic(), list[str]()
        while True:
            await self.lister.wait(LOOK_SECONDS)
            await self._list()
            if self.watches.dead and self.watches.dead != dead:
                logger.error("The watch of %s is dead: a restart is needed", ", ".join(self.watches.dead))
            dead = self.watches.dead
            if self.watches.unwatched and time.monotonic() - start > UNTIL_ANEW_SECONDS:
                logger.info("Nothing watches %s yet: starting anew", names(self.watches.unwatched))
                return True

    async def _list_at_first(self) -> None:
        """List all, and what fails by itself once more each second for a while. Raises WentBack."""
        until = time.monotonic() + PATIENCE_SECONDS
        await self._list()
        while (failing := self.access.failing) and time.monotonic() < until:
            for place in failing:
                self.lister.soon(place)
            await self.lister.wait(LOOK_SECONDS)
            await self._list()

    async def _list(self, places: Collection[Place] | None = None) -> None:
        """List these, or what is due, trying until it works. Raises WentBack."""
        pause = FIRST_PAUSE
        while True:
            try:
                return await self.lister.list(places)
            except Retry as error:
                wait = max(pause, error.after)
                logger.warning("The API server can't be asked; trying again in %.0f s: %s", wait, error)
                await asyncio.sleep(wait)
                pause = min(2 * pause, LONGEST_PAUSE)
