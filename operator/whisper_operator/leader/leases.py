"""The requests about Leases, on a connection of their own, which nothing else can fill up. What fails is tried again and told."""

import asyncio
import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime

from whisper_operator.kube.access_review import of_installation
from whisper_operator.kube.client import Api
from whisper_operator.kube.errors import Conflict, Forbidden, Refused, Retry
from whisper_operator.kube.kinds import ACCESS_REVIEW, LEASE
from whisper_operator.kube.objects import Raw
from whisper_operator.leader.installations import CLAIM, LEADER, SELECTOR
from whisper_operator.leader.lock import Lock

logger = logging.getLogger(__name__)

REQUEST_SECONDS = 2.0
"""That a request about a Lease may take, so that a renewal can be tried twice."""
ALL_AT_ONCE = 0
"""To a page of a list: what comes in one, the API server reads from its memory and not from etcd."""


def clock() -> float:
    """Seconds, of which those count as well in which the process was stopped or the machine asleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def wall() -> datetime:
    """What people call the time."""
    return datetime.now(UTC)


class Leases:
    def __init__(self, api: Api) -> None:
        self._api = api
        self.blind = ""
        """Why other installations can't be seen for good; "" if they can."""

    async def renew_or_take(self, lock: Lock) -> bool:
        """Read and write a Lease as far as that is due; whether nothing went wrong."""
        for _ in range(2):  # once more after somebody else's edit
            try:
                if lock.stale or not lock.holds(clock()):
                    lock.see(await self._api.get(LEASE, lock.namespace, lock.name), clock())
                if not lock.due(clock()) or not lock.may_be_had(clock()):
                    break
                sent = clock()
                write = self._api.update if lock.lease is not None else self._api.create
                lock.wrote(await write(LEASE, lock.body(wall())), sent, clock())
            except Conflict:
                lock.conflicted()
            except (Retry, Refused) as error:
                if not lock.holds(clock()):
                    lock.trouble = _complaint(lock.what, lock.trouble, error)
                return False
            else:
                break
        lock.trouble = ""
        return not lock.stale

    async def give_back(self, lock: Lock) -> None:
        """Let another have it at once; nothing of ours may be under way any more."""
        for _ in range(2):  # once more after a renewal of ours whose answer was not waited for
            try:
                await self._api.update(LEASE, lock.release(wall()))
                logger.info("Gave %s back", lock.what)
                return
            except Conflict:
                if not await self._is_ours(lock):
                    return
            except (Retry, Refused) as error:
                logger.info("Could not give %s back, so that it runs out: %s", lock.what, error)
                return

    async def others(self) -> list[Raw] | None:
        """The Leases of all installations, one's own among them; None if that can't be told now. By their names, so that nobody
        can make more of them than two in a namespace."""
        found: list[Raw] = []
        try:
            await asyncio.gather(*(self._named(name, found) for name in (LEADER, CLAIM)))
        except Forbidden as error:  # by the rights of an earlier version, which knew of no others either
            self.blind = _complaint("the list of other installations' Leases", self.blind, error)
            return []
        except (Retry, Refused) as error:
            logger.info("Could not look for other installations: %s", error)
            return None
        self.blind = ""
        return found

    async def _named(self, name: str, found: list[Raw]) -> None:
        fields = f"metadata.name={name}"
        await self._api.list_all(LEASE, None, SELECTOR, fields, found.append, page=ALL_AT_ONCE)

    async def may_write_everywhere(self, accounts: Iterable[tuple[str, str]]) -> list[bool | None]:
        """Of ServiceAccounts, by namespace and name, whether each has the rights of an installation for the whole cluster. None:
        that can't be told now."""
        return await asyncio.gather(*(self._may_write_everywhere(*each) for each in accounts))

    async def _may_write_everywhere(self, namespace: str, name: str) -> bool | None:
        try:
            answer = await self._api.create(ACCESS_REVIEW, of_installation((namespace, name)))
        except (Retry, Refused) as error:
            logger.info("Could not look for the rights of an installation in %s: %s", namespace, error)
            return None
        return bool(answer["status"]["allowed"])

    async def _is_ours(self, lock: Lock) -> bool:
        try:
            lock.see(await self._api.get(LEASE, lock.namespace, lock.name), clock())
        except (Retry, Refused):
            return False
        return lock.holder == lock.identity


def _complaint(what: str, before: str, error: Exception) -> str:
    """Why something can't be had, for people. `before`: what was said of it, "" if nothing was wrong."""
    why = str(error)
    if isinstance(error, Forbidden):
        why = f"apply deploy/ anew, which gives the right to it ({error})"
    if not before:
        # What passes, as an API server that is away, is told by all else that needs it.
        level = logging.INFO if isinstance(error, Retry) else logging.WARNING
        logger.log(level, "Can't have %s, trying again: %s", what, why)
    return f"can't have {what}: {why}"
