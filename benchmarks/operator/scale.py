"""What the operator costs at 100 and 1,000 endpoints, beside a bare loop that only applies the same objects.

    .venv/bin/python -m benchmarks.operator.scale [NUMBER ...]

Each number gets fresh development clusters, for the loop and for the operator. Times are the API server's, from its
audit log. Results go to docs/benchmarks/operator.json, plots beside it.
"""

import asyncio
import json
import os
import platform
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from whisper_operator.kube.kinds import CHILDREN, ENDPOINT, OURS

from benchmarks.operator import usage
from benchmarks.operator.load import NAMESPACE, Admin, bare_loop, children, resource, spread
from devcluster import AuditEvent, Cluster
from devcluster.installation import USER, WRITES, Operator, install

OUTPUT = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"
CONCURRENCIES = (4, 8, 16, 32)
SAMPLE = 30
"""Endpoints that each concurrency of the loop is tried with; the best one is then measured with all."""
SINGLES = 40
IDLE_SECONDS = 30.0
CLIENTS = 8

Figures = dict[str, Any]


def main() -> None:
    numbers = [int(each) for each in sys.argv[1:]] or [100, 1000]
    results: Figures = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, load before {os.getloadavg()[0]:.1f}",
        "runs": [asyncio.run(_measure(number)) for number in numbers],
    }
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "operator.json").write_text(json.dumps(results, indent=2) + "\n")
    from benchmarks.operator import plots

    plots.draw(results, OUTPUT)


async def _measure(number: int) -> Figures:
    found: Figures = {"endpoints": number}
    with Cluster.start() as cluster:
        found["loop"] = await _loop(cluster, number)
    with Cluster.start() as cluster:
        found["loop"]["beside_endpoints"] = await _loop_beside(cluster, number, found["loop"]["concurrency"])
    print(json.dumps(found), flush=True)
    with Cluster.start() as cluster:
        install(cluster)
        with Operator(cluster) as operator:
            operator.wait_until_working()
            async with Admin(cluster) as admin:
                await Run(cluster, operator, admin, number, found).everything()
    rate, loop = found["create"]["objects_per_second"], found["loop"]
    found["share_of_loop"] = round(rate / loop["objects_per_second"], 3)
    found["share_of_loop_beside_endpoints"] = round(rate / loop["beside_endpoints"], 3)
    print(json.dumps(found), flush=True)
    return found


async def _loop(cluster: Cluster, number: int) -> Figures:
    """The limit: a loop that only applies the children, at the concurrency that is best for it."""
    rates = {}
    async with Admin(cluster) as admin:
        for concurrency in CONCURRENCIES:
            names = [f"c{concurrency}-{index}" for index in range(min(SAMPLE, number))]
            rates[concurrency] = await bare_loop(admin, names, concurrency)
        best = max(rates, key=lambda each: rates[each])
        watch = usage.Watch(cluster)
        rate = await bare_loop(admin, [f"e{index}" for index in range(number)], best)
        cores = watch.cores()
    return {
        "concurrency": best,
        "objects_per_second": round(rate, 1),
        "cores": cores,
        "tried": {str(each): round(found, 1) for each, found in rates.items()},
    }


async def _loop_beside(cluster: Cluster, number: int, concurrency: int) -> float:
    """The same while the endpoints are applied, as they are when the operator is measured. No operator runs."""
    install(cluster)
    names = [f"e{index}" for index in range(number)]
    async with Admin(cluster) as admin:
        endpoints = asyncio.create_task(spread(names, CLIENTS, partial(_put, admin)))
        rate = await bare_loop(admin, names, concurrency)
        await endpoints
    return round(rate, 1)


async def _put(admin: Admin, name: str, **spec: Any) -> None:
    await admin.apply(ENDPOINT.path(NAMESPACE, name), resource(name, **spec))


class Run:
    """The operator on one cluster, through the life of so many endpoints."""

    def __init__(
        self, cluster: Cluster, operator: Operator, admin: Admin, number: int, found: Figures
    ) -> None:
        self.cluster, self.operator, self.admin = cluster, operator, admin
        self.names = [f"e{index}" for index in range(number)]
        self.found = found
        self.per_endpoint = len(children("e0"))

    async def everything(self) -> None:
        await self.phase("create", self.create)
        await self.phase("settle", self.settle)
        await self.phase("idle", self.idle)
        await self.phase("restart", self.restart)
        await self.phase("one_by_one_idle", lambda: self.singles("s"))
        await self.phase("change", self.change)
        await self.phase("one_by_one_under_load", self.under_load)
        await self.phase("delete", self.delete)

    async def phase(self, name: str, act: Callable[[], Any]) -> None:
        """Seconds, requests, CPU seconds and memory of one phase; how many cores each program of the cluster kept busy."""
        start, process = datetime.now(UTC), self.operator.pid
        cpu, watch, clock = usage.cpu_seconds(process), usage.Watch(self.cluster), time.perf_counter()
        figures = await act() or {}
        figures.setdefault("seconds", round(time.perf_counter() - clock, 2))
        figures["cores"] = watch.cores()
        after = self.operator.pid
        figures["cpu_seconds"] = round(usage.cpu_seconds(after) - (cpu if after == process else 0.0), 2)
        figures["rss_mib"], figures["peak_rss_mib"] = usage.memory_mib(after)
        requests = self.cluster.audit(user=USER, since=start)
        figures["requests"] = sum(event.verb != "watch" for event in requests)
        figures["writes"] = sum(
            event.verb in WRITES and not event.resource.endswith("/leases") for event in requests
        )
        figures["by_verb"] = dict(
            Counter(f"{event.verb} {event.resource.split('/', 1)[-1]}" for event in requests).most_common(12)
        )
        self.found[name] = figures
        print(name, json.dumps(figures), flush=True)

    async def create(self) -> Figures:
        """From the first endpoint's creation to the answer to the last child's."""
        start = datetime.now(UTC)
        await self.put_all()
        last = await self.last_child(start, self.per_endpoint * len(self.names), created=True)
        seconds = (last - start).total_seconds()
        rate = self.per_endpoint * len(self.names) / seconds
        return {"seconds": round(seconds, 2), "objects_per_second": round(rate, 1)}

    async def settle(self) -> None:
        """Until every endpoint is Ready and the operator has nothing to do."""
        await self.wait(
            lambda: self.operator.metric("whisper_operator_endpoints", readiness="ready") >= len(self.names),
            1200,
        )
        await self.quiet()

    async def idle(self) -> None:
        await asyncio.sleep(IDLE_SECONDS)

    async def restart(self) -> Figures:
        self.operator.stop()
        clock = time.perf_counter()
        self.operator.start()
        await asyncio.to_thread(self.operator.wait_until_working, 300.0)
        done = "whisper_operator_reconciles_total"
        await self.wait(lambda: self.operator.metric(done, result="done") >= len(self.names), 600)
        await self.quiet(0)
        seconds = round(time.perf_counter() - clock, 2)
        await self.quiet()
        return {"seconds": seconds}

    async def change(self) -> Figures:
        """Of a field that goes into every Deployment."""
        start = datetime.now(UTC)
        await self.put_all(limits={"maxQueue": 7})
        last = await self.last_child(start, len(self.names), "deployments")
        await self.quiet()
        return {"seconds": round((last - start).total_seconds(), 2)}

    async def under_load(self) -> Figures:
        """New endpoints while all others change."""
        load = asyncio.create_task(self.put_all(limits={"maxQueue": 9}))
        figures = await self.singles("l")
        await load
        await self.quiet()
        return figures

    async def singles(self, prefix: str) -> Figures:
        """One endpoint after the other: from the answer to its creation to that of its last child.

        After each, a bare client makes the same objects: what the API server needs for that, just then.
        """
        seconds, bare = [], []
        for index in range(SINGLES):
            start, name = datetime.now(UTC), f"{prefix}{index}"
            await _put(self.admin, name)

            def applied_by_us(name: str = name, start: datetime = start) -> list[AuditEvent]:
                events = self.cluster.audit(verbs=["patch"], since=start)
                return [
                    event
                    for event in events
                    if event.resource.endswith("/whisperendpoints") and event.name == name
                ]

            applied = (await self.events(applied_by_us))[0].finished

            def of_it(name: str = name, start: datetime = start) -> list[AuditEvent]:
                events = self.cluster.audit(user=USER, verbs=["patch"], since=start)
                mine = [
                    event
                    for event in events
                    if _child(event) and event.name.startswith(name) and event.code == 201
                ]
                mine = [
                    event for event in mine if event.name == name or event.name[: len(name) + 1] == f"{name}-"
                ]
                return mine if len(mine) >= self.per_endpoint else []

            last = max(event.finished for event in await self.events(of_it))
            seconds.append(max(0.0, (last - applied).total_seconds()))
            bare.append(await self.bare(f"bare-{prefix}{index}"))
            await asyncio.sleep(0.1)
        return {**_percentiles(seconds), "bare": _percentiles(bare)}

    async def bare(self, name: str) -> float:
        """Seconds to apply one endpoint's children as the operator does: side by side, and last the one that names others."""
        *others, last = children(name)
        clock = time.perf_counter()
        await asyncio.gather(*(self.admin.apply(*each) for each in others))
        await self.admin.apply(*last)
        seconds = time.perf_counter() - clock
        for path, _ in (*others, last):
            await self.admin.send("DELETE", path)
        return seconds

    async def delete(self) -> None:
        """From the first deletion until no child is left."""
        path = ENDPOINT.path(NAMESPACE)
        names = [*self.names, *(f"{prefix}{index}" for prefix in "sl" for index in range(SINGLES))]
        await spread(names, CLIENTS, lambda name: self.admin.send("DELETE", f"{path}/{name}"))
        for kind in CHILDREN:
            if kind.owned and kind.name != "PodMonitor":
                while await self.admin.count(kind.path(NAMESPACE), OURS):  # noqa: ASYNC110
                    await asyncio.sleep(0.5)

    async def put_all(self, **spec: Any) -> None:
        await spread(self.names, CLIENTS, partial(_put, self.admin, **spec))

    async def last_child(
        self, since: datetime, number: int, plural: str = "", *, created: bool = False
    ) -> datetime:
        """When the last of so many child writes was answered."""

        def enough() -> list[AuditEvent]:
            events = self.cluster.audit(user=USER, verbs=["patch"], since=since)
            mine = [
                event
                for event in events
                if _child(event) and event.resource.endswith(plural) and event.code < 300
            ]
            mine = [event for event in mine if event.code == 201 or not created]
            return mine[:number] if len(mine) >= number else []

        # The times are the log's, so it can be read seldom: reading it takes time from those who are measured.
        return max(event.finished for event in await self.events(enough, 1200, 1.0))

    async def events(
        self, look: Callable[[], list[AuditEvent]], ceiling: float = 60.0, pause: float = 0.05
    ) -> list[AuditEvent]:
        found: list[AuditEvent] = []

        def there() -> bool:
            nonlocal found
            found = look()
            return bool(found)

        await self.wait(there, ceiling, pause)
        return found

    async def quiet(self, seconds: float = 3.0) -> None:
        """Until the operator has had nothing to do for so long."""
        since = time.monotonic()
        names = [f"whisper_operator_workqueue_{name}" for name in ("depth", "active", "failing")]
        while time.monotonic() - since <= seconds:
            if any([await asyncio.to_thread(self.operator.metric, name) for name in names]):
                since = time.monotonic()
            await asyncio.sleep(0.25)

    async def wait(self, look: Callable[[], bool], ceiling: float, pause: float = 0.5) -> None:
        end = time.monotonic() + ceiling
        while not await asyncio.to_thread(look):
            if time.monotonic() > end:
                raise SystemExit(f"not within {ceiling} s; the operator's log: {self.operator.log_path}")
            await asyncio.sleep(pause)


def _percentiles(seconds: list[float]) -> Figures:
    ordered = sorted(seconds)
    return {
        "p50_ms": round(statistics.median(ordered) * 1000, 1),
        "p99_ms": round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))] * 1000, 1),
        "each_ms": [round(each * 1000, 1) for each in ordered],
    }


def _child(event: AuditEvent) -> bool:
    return "whisperendpoints" not in event.resource and event.resource != "events"


if __name__ == "__main__":
    main()
