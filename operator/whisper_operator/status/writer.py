"""Telling an endpoint's users: its status, and an Event for each condition that turned."""

import logging
import random
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from whisper_operator.informer.cache import Cache
from whisper_operator.kube.client import Api
from whisper_operator.kube.errors import Forbidden, Refused, Retry
from whisper_operator.kube.kinds import ENDPOINT
from whisper_operator.kube.objects import Raw
from whisper_operator.status.status import Report
from whisper_operator.status.throttle import Throttle

logger = logging.getLogger(__name__)

COMPONENT = "whisper-operator"
REFUSED_SECONDS = 30.0
"""Until the next try to write a status that was refused."""


class StatusWriter:
    """Writes only what changed, and not too often."""

    def __init__(self, api: Api, cache: Cache) -> None:
        self._api = api
        self._cache = cache
        self._throttle = Throttle()

    async def write(
        self, resource: Raw, report: Report, now: datetime, *, backlogged: bool = False
    ) -> float | None:
        """Write the status if it changed, and publish its Events. Raises Retry.

        Returns in how many seconds it may be written, where that was too often lately, or `backlogged`: others come first.
        """
        if report.patch:
            metadata = resource["metadata"]
            generation = metadata.get("generation", 0)
            wait = self._throttle.wait(metadata["uid"], generation, time.monotonic(), backlogged=backlogged)
            if wait > 0:
                return wait
            body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": report.patch}
            try:
                answer = await self._api.patch_status(ENDPOINT, metadata["namespace"], metadata["name"], body)
            except Refused as error:
                if error.status == 404:
                    # Deleted, whether or not a watch has said so: there is nobody to report to.
                    self._cache.delete(ENDPOINT, resource)
                    return None
                # Of a right, a webhook or a CRD that is older: somebody else's to mend, and no fault of the operator's.
                level = logging.INFO if isinstance(error, Forbidden) else logging.WARNING
                logger.log(level, "Could not write the status, trying again: %s", error)
                return REFUSED_SECONDS * random.uniform(0.8, 1.2)  # not all at once, whose CRD is older
            self._cache.upsert(ENDPOINT, answer)
        for event in report.events:
            logger.info("%s: %s", event["reason"], event["message"])
            try:
                await self._api.create_event(_event(resource, event, now))
            except (Refused, Retry) as reason:  # Events are a courtesy: the status says the same.
                logger.info("Could not publish an event: %s", reason)
        return None


def _event(resource: Raw, event: Mapping[str, str], now: datetime) -> dict[str, Any]:
    metadata = resource["metadata"]
    stamp = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "metadata": {"namespace": metadata["namespace"], "generateName": f"{metadata['name']}."},
        "involvedObject": {
            "apiVersion": ENDPOINT.api_version,
            "kind": ENDPOINT.name,
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
        "type": event["type"],
        "reason": event["reason"],
        "message": event["message"][:1024],
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
