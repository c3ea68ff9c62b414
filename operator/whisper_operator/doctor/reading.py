"""Reading a cluster in bounded time: what is forbidden, missing or hangs is noted as a gap, and the rest goes on."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from whisper_operator.doctor.finding import Gap
from whisper_operator.kube.client import Api
from whisper_operator.kube.errors import Forbidden, Refused, Retry
from whisper_operator.kube.kinds import ACCESS_REVIEW, Kind
from whisper_operator.kube.objects import Raw
from whisper_operator.observed.foreign_words import shortened

REQUEST_SECONDS = 10.0
"""For one request."""
KIND_SECONDS = 45.0
"""For all pages of a list."""
PAGE = 250

T = TypeVar("T")


def needs(verb: str, kind: Kind, namespace: str | None, name: str = "") -> str:
    """A right, in words; without a namespace, in the whole cluster."""
    where = f" in namespace {namespace}" if namespace else " in the whole cluster"
    return f"{verb} {kind.qualified}{f' {name}' if name else ''}{where}"


class Reader:
    def __init__(self, api: Api, seconds: float = KIND_SECONDS) -> None:
        """`seconds`: for all pages of a list."""
        self._api = api
        self._seconds = seconds
        self.reached = 0
        """Reads that worked."""
        self.missing: set[Kind] = set()
        """Kinds that the cluster does not have."""

    async def list(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        keep: Callable[[Raw], Raw] = lambda raw: raw,
    ) -> tuple[Raw, ...] | Gap:
        """All objects of a kind; none, if the cluster lacks it. `keep` cuts down what nobody needs the whole of."""
        found: dict[str, Raw] = {}

        def take(raw: dict[str, Any]) -> None:
            found[raw["metadata"]["uid"]] = keep(raw)

        async def read() -> tuple[Raw, ...]:
            listing = self._api.list_all(kind, namespace, labels, fields, take, page=PAGE)
            if await asyncio.wait_for(listing, self._seconds) is None:
                self.missing.add(kind)
            return tuple(found.values())

        return await self._try(read(), needs("list", kind, namespace))

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Raw | Gap | None:
        """One object; None if there is none."""
        return await self._try(self._api.get(kind, namespace, name), needs("get", kind, namespace, name))

    async def allowed(self, review: Mapping[str, Any]) -> bool | Gap:
        """What the answer to a SubjectAccessReview is."""
        creating = self._api.create(ACCESS_REVIEW, review)
        answer = await self._try(creating, needs("create", ACCESS_REVIEW, None))
        return answer if isinstance(answer, Gap) else bool((answer.get("status") or {}).get("allowed"))

    async def log(self, namespace: str, pod: str, container: str, *, lines: int, most: int) -> str | Gap:
        reading = self._api.log(namespace, pod, container, lines=lines, most=most)
        return await self._try(reading, f"get pods/log in namespace {namespace}")

    async def _try(self, reading: Awaitable[T], right: str) -> T | Gap:
        try:
            found = await reading
        except Forbidden:
            return Gap(right, "")
        except TimeoutError:
            return Gap(right, f"{right}: it took longer than {self._seconds:g} s")
        except (Refused, Retry) as error:
            return Gap(right, shortened(f"{right}: {error}"))
        except Exception as error:  # of what is in the answer
            return Gap(
                right, shortened(f"{right}: the answer makes no sense: {type(error).__name__}: {error}")
            )
        self.reached += 1
        return found
