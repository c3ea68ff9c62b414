"""Fast raw HTTP against the API server: how the benchmark makes its load, and the limit that the operator is held against."""

import asyncio
import base64
import copy
import json
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import yaml
from whisper_operator import config, manifests
from whisper_operator.apply import plan
from whisper_operator.kube.kinds import ENDPOINT, POD_MONITORING
from whisper_operator.observed.children import Observed
from whisper_operator.spec import endpoint

from devcluster import Cluster
from devcluster.installation import IMAGES

T = TypeVar("T")

NAMESPACE = "default"


class Admin:
    """An administrator with as many connections as wanted."""

    def __init__(self, cluster: Cluster) -> None:
        cluster.kubectl("create", "serviceaccount", "benchmark", "-n", "kube-system")
        account = "--serviceaccount=kube-system:benchmark"
        cluster.kubectl("create", "clusterrolebinding", "benchmark", "--clusterrole=cluster-admin", account)
        kubeconfig = cluster.kubeconfig_for("system:serviceaccount:kube-system:benchmark")
        configuration = yaml.safe_load(kubeconfig.read_text())
        authority = configuration["clusters"][0]["cluster"]["certificate-authority-data"]
        self._tls = ssl.create_default_context(cadata=base64.b64decode(authority).decode())
        self._token = configuration["users"][0]["user"]["token"]
        self._server = cluster.server

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            self._server,
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=0),
            headers={"Authorization": f"Bearer {self._token}", "User-Agent": "benchmark"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def send(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> Any:
        data = None if body is None else json.dumps(body).encode()
        async with self._session.request(
            method, path, data=data, headers={"Content-Type": content_type}
        ) as answer:
            text = await answer.read()
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
            return json.loads(text)

    async def apply(self, path: str, body: Any, manager: str = "benchmark") -> None:
        await self.send(
            "PATCH", f"{path}?fieldManager={manager}&force=true", body, "application/apply-patch+yaml"
        )

    async def count(self, path: str, selector: str = "") -> int:
        """How many objects a collection has."""
        answer = await self.send("GET", f"{path}?limit=1&labelSelector={selector}")
        return len(answer["items"]) + int(answer["metadata"].get("remainingItemCount", 0))


def resource(name: str, **spec: Any) -> dict[str, Any]:
    """A public endpoint with a managed certificate, as in the README."""
    return {
        "apiVersion": ENDPOINT.api_version,
        "kind": ENDPOINT.name,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"host": f"{name}.example.com", **spec},
    }


def children(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Path and body of each object that the operator applies for `resource(name)`, in its order; without an owner."""
    settings = config.parse({"server": IMAGES})
    seen = Observed(optional=frozenset({POD_MONITORING}))
    found = manifests.of(endpoint.parse(resource(name), settings), seen, settings)
    return [(each.kind.path(each.namespace, each.name), copy.deepcopy(plan.applied(each))) for each in found]


async def spread(jobs: Iterable[T], concurrency: int, do: Callable[[T], Awaitable[object]]) -> float:
    """Do all jobs, so many at a time; the seconds that took."""
    waiting = iter(list(jobs))

    async def worker() -> None:
        for job in waiting:
            await do(job)

    start = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return time.perf_counter() - start


async def bare_loop(admin: Admin, names: list[str], concurrency: int) -> float:
    """Objects a second of a loop that does nothing but apply the children of so many endpoints, in order for each."""
    work = [children(name) for name in names]

    async def one(bodies: list[tuple[str, dict[str, Any]]]) -> None:
        for path, body in bodies:
            await admin.apply(path, body)

    seconds = await spread(work, concurrency, one)
    return sum(len(bodies) for bodies in work) / seconds
