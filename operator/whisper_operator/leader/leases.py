"""The requests about Leases, on a connection of their own, which nothing else can fill up. What fails is tried again and told."""

import logging
import time
from datetime import UTC, datetime
from typing import Any

from whisper_operator.kube.client import Api
from whisper_operator.kube.errors import Conflict, Forbidden, Refused, Retry
from whisper_operator.kube.kinds import ACCESS_REVIEW, DEPLOYMENT, FIELD_MANAGER, LEASE
from whisper_operator.leader.installations import SELECTOR
from whisper_operator.leader.lock import Lock

logger = logging.getLogger(__name__)

REQUEST_SECONDS = 2.0
"""That a request about a Lease may take, so that a renewal can be tried twice."""
OTHERS = "the list of other installations' Leases"


def clock() -> float:
    """Seconds, of which those count as well in which the process was stopped or the machine asleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Leases:
    def __init__(self, api: Api) -> None:
        self._api = api
        self.troubles: dict[str, str] = {}
        """By what can't be had or seen, why, in the API server's words."""

    async def turn(self, lock: Lock) -> bool:
        """Read and write a Lease as far as that is due; whether nothing went wrong."""
        what = f"the Lease {lock.namespace}/{lock.name}"
        for _ in range(2):  # once more after somebody else's edit
            try:
                if lock.stale or not lock.holds(clock()):
                    lock.see(await self._api.get(LEASE, lock.namespace, lock.name), clock())
                is_due = lock.due(clock()) or not lock.holds(clock())
                if not is_due or not lock.may_be_had(clock()):
                    break
                sent = clock()
                write = self._api.update if lock.lease is not None else self._api.create
                lock.wrote(await write(LEASE, lock.body(datetime.now(UTC))), sent, clock())
            except (Retry, Refused) as error:
                lock.failed()
                if not isinstance(error, Conflict):
                    if not lock.holds(clock()):
                        self._complain(what, error)
                    return False
            else:
                break
        self.troubles.pop(what, None)
        return not lock.stale

    async def give_back(self, lock: Lock) -> None:
        """Let another have it at once; nothing of ours may be under way any more."""
        what = f"the Lease {lock.namespace}/{lock.name}"
        for _ in range(2):  # once more after a renewal of ours whose answer was not waited for
            try:
                await self._api.update(LEASE, lock.release(datetime.now(UTC)))
                logger.info("Gave %s back", what)
                return
            except (Retry, Refused) as error:
                if not isinstance(error, Conflict):
                    logger.info("Could not give %s back, so that it runs out: %s", what, error)
                    return
            lock.failed()
            if not await self._is_ours(lock):
                return

    async def others(self) -> list[dict[str, Any]] | None:
        """All Leases of all installations, one's own among them; None if that can't be told now."""
        found: list[dict[str, Any]] = []
        try:
            await self._api.list_all(LEASE, None, SELECTOR, None, found.append)
        except (
            Forbidden
        ) as error:  # as under the rights of an earlier version, which knew of no others either
            self._complain(OTHERS, error)
        except (Retry, Refused) as error:
            logger.info("Could not look for other installations: %s", error)
            return None
        else:
            self.troubles.pop(OTHERS, None)
        return found

    async def may_write_everywhere(self, namespace: str) -> bool:
        """Whether the installation in a namespace has the rights of one for the whole cluster: its Lease alone may be made up by
        whoever may write there. True if that can't be told."""
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        asked = {
            "user": f"system:serviceaccount:{namespace}:{FIELD_MANAGER}",
            "groups": list(groups),
            "resourceAttributes": {"verb": "patch", "group": DEPLOYMENT.group, "resource": DEPLOYMENT.plural},
        }
        kind = {"apiVersion": ACCESS_REVIEW.api_version, "kind": ACCESS_REVIEW.name, "metadata": {}}
        try:
            answer = await self._api.create(ACCESS_REVIEW, {**kind, "spec": asked})
        except (Retry, Refused) as error:
            logger.info("Could not look for the rights of an installation in %s: %s", namespace, error)
            return True
        return bool(answer["status"]["allowed"])

    async def _is_ours(self, lock: Lock) -> bool:
        try:
            lock.see(await self._api.get(LEASE, lock.namespace, lock.name), clock())
        except (Retry, Refused):
            return False
        return lock.holder == lock.identity

    def _complain(self, what: str, error: Exception) -> None:
        why = str(error)
        if isinstance(error, Forbidden):
            why = f"apply deploy/ anew, which gives the right to it ({error})"
        if what not in self.troubles:
            # What passes, as an API server that is away, is told by all else that needs it.
            level = logging.INFO if isinstance(error, Retry) else logging.WARNING
            logger.log(level, "Can't have %s, trying again: %s", what, why)
        self.troubles[what] = why
