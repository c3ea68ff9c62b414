"""What Kubernetes and Prometheus ask of the operator over HTTP: /healthz, /readyz and /metrics on one port."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import Gauge, Info, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from whisper_operator import __version__
from whisper_operator.config import ConfigError
from whisper_operator.informer.access import HOW_TO_HAVE_IT, Access
from whisper_operator.informer.cache import Cache
from whisper_operator.informer.liveness import Watches
from whisper_operator.kube.kinds import ENDPOINT
from whisper_operator.kube.metrics import REGISTRY
from whisper_operator.kube.objects import Key, Raw, condition
from whisper_operator.leader.leadership import Leadership
from whisper_operator.policy.rules import NO_ROOM, VIOLATION
from whisper_operator.process import amiss
from whisper_operator.workqueue import ACTIVE, DEPTH, FAILING, WorkQueue

BUILD = Info("whisper_operator_build", "The version that runs.", registry=REGISTRY)
BUILD.info({"version": __version__})

READINESS = ("ready", "progressing", "suspended", "stalled")

ENDPOINTS = Gauge(
    "whisper_operator_endpoints",
    "WhisperEndpoints in the cluster by readiness: ready, progressing, suspended or stalled.",
    ["readiness"],
    registry=REGISTRY,
)
UPGRADES = Gauge(
    "whisper_operator_upgrades",
    "WhisperEndpoints whose pods the installation has changed and not their spec, by what becomes of that: waiting, paused, "
    "rolling, or failed, which stops the others.",
    ["state"],
    registry=REGISTRY,
)
REFUSED = Gauge(
    "whisper_operator_policy_violations",
    "WhisperEndpoints that ask for what the installation's policy does not allow; what they have was left as it is.",
    registry=REGISTRY,
)
WITHOUT_ROOM = Gauge(
    "whisper_operator_ceilings_reached",
    "WhisperEndpoints that ask for what is allowed, and that the policy's ceilings leave no room for now.",
    registry=REGISTRY,
)
ORPHANS = Gauge(
    "whisper_operator_orphans",
    "Names of WhisperEndpoints that are gone and have left a Deployment or an Ingress, for good where the deletion was one that "
    "orphans: what runs there takes room under the policy's ceilings, and keeps its host.",
    registry=REGISTRY,
)
DEAD_WATCHES = Gauge(
    "whisper_operator_dead_watches",
    "Kinds whose watch reports nothing any more; /healthz fails then.",
    registry=REGISTRY,
)


@dataclass
class Health:
    """The running operator as the probes see it."""

    cache: Cache
    queue: WorkQueue[Key]
    access: Access
    watches: Watches
    leadership: Leadership
    working: bool = field(default=False)
    """Whether everything has been listed, so that its workers may run."""

    async def healthz(self, _: web.Request) -> web.Response:
        """500 where only a restart helps."""
        dead = self.watches.dead
        if dead:
            return web.Response(status=500, text=f"the watch of {', '.join(dead)} reports nothing any more\n")
        return web.Response(text="ok\n")

    async def readyz(self, _: web.Request) -> web.Response:
        if not self.working:
            return web.Response(status=503, text="not everything has been listed yet\n")
        places = [place for place in self.access.places if place[0] is ENDPOINT]
        if not any(self.access.listed(place) for place in places):
            obstacle = self.access.obstacle(*places[0])
            words = "" if obstacle is None else f" ({obstacle.reason}: {obstacle.message or HOW_TO_HAVE_IT})"
            return web.Response(status=503, text=f"{ENDPOINT.qualified} can't be read{words}\n")
        is_fit, words = self.leadership.state()
        return web.Response(status=200 if is_fit else 503, text=f"{words}\n")

    async def metrics(self, _: web.Request) -> web.Response:
        DEPTH.set(len(self.queue))
        ACTIVE.set(self.queue.active)
        FAILING.set(self.queue.failing)
        DEAD_WATCHES.set(len(self.watches.dead))
        resources = [self.cache.endpoint(key) or {} for key in self.cache.endpoints()]
        amiss.show(resources)
        found = Counter(map(readiness, resources))
        reasons = Counter(condition(each.get("status") or {}, "Ready").get("reason") for each in resources)
        REFUSED.set(reasons[VIOLATION])
        WITHOUT_ROOM.set(reasons[NO_ROOM])
        ORPHANS.set(len(self.cache.orphans()))
        for name in READINESS:
            ENDPOINTS.labels(name).set(found[name])
        for state, count in self.cache.train.states().items():
            UPGRADES.labels(state).set(count)
        return web.Response(
            body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
        )


def readiness(resource: Raw) -> str:
    """One word of READINESS for what the conditions say."""
    said = resource.get("status") or {}
    if condition(said, "Stalled").get("status") == "True":
        return "stalled"
    ready = condition(said, "Ready")
    if ready.get("reason") == "Suspended":
        return "suspended"
    return "ready" if ready.get("status") == "True" else "progressing"


@asynccontextmanager
async def serve(health: Health, port: int) -> AsyncIterator[None]:
    """Answer on `port` of every address. Raises ConfigError if that can't be had."""
    app = web.Application()
    app.router.add_get("/healthz", health.healthz)
    app.router.add_get("/readyz", health.readyz)
    app.router.add_get("/metrics", health.metrics)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, port=port).start()
        except (OSError, OverflowError) as error:
            raise ConfigError(f"cannot listen on healthPort {port}: {error}") from error
        yield
    finally:
        await runner.cleanup()
