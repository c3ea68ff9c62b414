"""Writing a status that the API server does not take."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from whisper_operator.informer.cache import Cache
from whisper_operator.kube.client import Api
from whisper_operator.kube.errors import Forbidden, Refused, Unavailable
from whisper_operator.kube.kinds import ENDPOINT
from whisper_operator.status.status import Report
from whisper_operator.status.writer import REFUSED_SECONDS, StatusWriter

KEY = ("n", "w")
RESOURCE = {"metadata": {"namespace": "n", "name": "w", "uid": "u", "resourceVersion": "1", "generation": 1}}


class Refusing:
    """An API server that answers each write of a status so."""

    def __init__(self, answer: Exception) -> None:
        self.answer = answer

    async def patch_status(self, *_: Any) -> dict[str, Any]:
        raise self.answer


def write(answer: Exception, cache: Cache) -> float | None:
    cache.upsert(ENDPOINT, RESOURCE)
    report = Report(patch={"conditions": []}, events=(), next_look=None)
    writer = StatusWriter(cast(Api, Refusing(answer)), cache)
    return asyncio.run(writer.write(RESOURCE, report, datetime.now(UTC)))


@pytest.mark.parametrize(
    ("answer", "level"),
    [
        (Forbidden(403, "no right"), logging.INFO),
        (Refused(400, 'admission webhook "x" denied the request: no'), logging.WARNING),
        (Refused(422, "status.conditions: Invalid value"), logging.WARNING),
        (Refused(500, 'failed calling webhook "x"'), logging.WARNING),
    ],
)
def test_a_refusal_is_told_in_the_api_servers_words_and_tried_again(
    answer: Refused, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cache = Cache()
    waits = {write(answer, cache) or 0.0 for _ in range(5)}
    assert len(waits) > 1  # else all endpoints come back at once, each time
    assert all(0.8 <= each / REFUSED_SECONDS <= 1.2 for each in waits)
    record = caplog.records[0]
    assert (record.levelno, record.message) == (
        level,
        f"Could not write the status, trying again: {answer}",
    )
    assert cache.endpoint(KEY) is not None


def test_nobody_is_told_of_an_endpoint_that_is_gone() -> None:
    cache = Cache()
    assert write(Refused(404, "not found"), cache) is None
    assert cache.endpoint(KEY) is None


def test_what_passes_is_the_queues_to_try_again() -> None:
    with pytest.raises(Unavailable):
        write(Unavailable("503"), Cache())
