"""The stand-in's process: watches what GKE's controllers watch and hands each change to those it concerns.

    python -m devcluster.gke.controller KUBECONFIG READY_FILE

READY_FILE is made once everything is watched.
"""

import asyncio
import logging
import sys
from pathlib import Path

from devcluster.gke import autoscaler, certificates, ingress, negs, settings
from devcluster.gke.client import ApiError, Client, Object
from devcluster.gke.events import Recorder
from devcluster.gke.store import Collection, Key, key_of
from devcluster.gke.workqueue import Job, Retry, WorkQueue
from devcluster.gke.world import SERVICE_NAME, World, certificates_of, services_of

log = logging.getLogger(__name__)

WORKERS = 16

INGRESS, INGRESS_CERTIFICATES = "ingress", "certificates of ingress"
CERTIFICATE, SERVICE, POD = "certificate", "service", "pod"

ROUTINES = {
    INGRESS: ingress.sync,
    INGRESS_CERTIFICATES: certificates.sync_ingress,
    CERTIFICATE: certificates.sync,
    SERVICE: negs.sync,
    POD: autoscaler.sync,
}


class Wiring:
    """Which change concerns whom."""

    def __init__(self, world: World) -> None:
        self._world = world

    def ingress(self, old: Object | None, new: Object | None) -> None:
        """An Ingress: itself, and the Services and certificates that it names or named."""
        world = self._world
        for references in (world.by_service, world.by_certificate, world.by_ssl, world.by_frontend):
            references.update(old, new)
        one = new or old or {}
        self._wake_ingress(key_of(one))
        namespace = one["metadata"]["namespace"]
        for item in (old, new):
            if item is not None:
                for service in services_of(item):
                    world.queue.add((SERVICE, (namespace, service)))
                for certificate in certificates_of(item):
                    world.queue.add((CERTIFICATE, (namespace, certificate)))
        if new is None:
            world.forget(one)

    def service(self, old: Object | None, new: Object | None) -> None:
        """A Service: itself, and the Ingresses in front of it."""
        world = self._world
        world.services_by_backend.update(old, new)
        one = new or old or {}
        world.queue.add((SERVICE, key_of(one)))
        self._wake_ingresses(world.by_service.to(key_of(one)))
        if new is None:
            world.forget(one)

    def endpoint_slice(self, old: Object | None, new: Object | None) -> None:
        """A Service's endpoints: the Ingresses in front of it show their health."""
        world = self._world
        world.slices_by_service.update(old, new)
        metadata = (new or old or {})["metadata"]
        name = metadata.get("labels", {}).get(SERVICE_NAME, "")
        self._wake_ingresses(world.by_service.to((metadata["namespace"], name)))

    def certificate(self, old: Object | None, new: Object | None) -> None:
        """A ManagedCertificate: itself, and the Ingresses that name it."""
        one = new or old or {}
        self._world.queue.add((CERTIFICATE, key_of(one)))
        self._wake_ingresses(self._world.by_certificate.to(key_of(one)))
        if new is None:
            self._world.forget(one)

    def frontend_config(self, old: Object | None, new: Object | None) -> None:
        """A FrontendConfig: the Ingresses that name it."""
        self._wake_ingresses(self._world.by_frontend.to(key_of(new or old or {})))

    def backend_config(self, old: Object | None, new: Object | None) -> None:
        """A BackendConfig: the Ingresses in front of the Services that name it."""
        for service in self._world.services_by_backend.to(key_of(new or old or {})):
            self._wake_ingresses(self._world.by_service.to(service))

    def unscheduled(self, old: Object | None, new: Object | None) -> None:
        """A pod without a node: itself."""
        self._world.queue.add((POD, key_of(new or old or {})))
        if new is None:
            self._world.forget(old or {})

    def config_map(self, old: Object | None, new: Object | None) -> None:
        """Settings: everything, or everything in the namespace."""
        world = self._world
        namespace, name = key_of(new or old or {})
        if name != settings.CONFIG_MAP or (old or {}).get("data") == (new or {}).get("data"):
            return
        world.settings_changed()
        everywhere = namespace == settings.SYSTEM_NAMESPACE
        for key in world.ingresses.all_keys():
            if everywhere or key[0] == namespace:
                self._wake_ingress(key)
        for key in world.certificates.all_keys():
            if everywhere or key[0] == namespace:
                world.queue.add((CERTIFICATE, key))
        for key in world.services.all_keys():
            if everywhere or key[0] == namespace:
                world.queue.add((SERVICE, key))
        for key in world.unscheduled.all_keys():
            if everywhere or key[0] == namespace:
                world.queue.add((POD, key))

    def _wake_ingresses(self, keys: list[Key]) -> None:
        for key in keys:
            self._wake_ingress(key)

    def _wake_ingress(self, key: Key) -> None:
        self._world.queue.add((INGRESS, key))
        self._world.queue.add((INGRESS_CERTIFICATES, key))


async def run(kubeconfig: Path, ready: Path) -> None:
    """Act on the cluster until cancelled."""
    async with Client(kubeconfig) as client, asyncio.TaskGroup() as group:
        system = await client.get(f"/api/v1/namespaces/{settings.SYSTEM_NAMESPACE}")

        async def work(job: Job) -> float | None:
            routine, key = job
            return await ROUTINES[routine](world, key)

        world = World(client, Recorder(client), WorkQueue(work, _failed), system["metadata"]["uid"][:8])
        wiring = Wiring(world)
        followed: list[Collection] = []
        for collection, changed in (
            (world.config_maps, wiring.config_map),
            (world.ingresses, wiring.ingress),
            (world.services, wiring.service),
            (world.slices, wiring.endpoint_slice),
            (world.certificates, wiring.certificate),
            (world.frontends, wiring.frontend_config),
            (world.backends, wiring.backend_config),
            (world.unscheduled, wiring.unscheduled),
        ):
            group.create_task(collection.follow(client, changed))
            followed.append(collection)
        # What is not listed yet would look as if it did not exist.
        for collection in followed:
            await collection.listed.wait()
        group.create_task(world.queue.run(WORKERS))
        await asyncio.to_thread(ready.touch)


def _failed(job: Job, error: Exception) -> None:
    match error:
        case Retry():
            log.info("%s: %s", job, error)
        case ApiError(code=404 | 409):  # it has changed or gone meanwhile
            log.info("%s: %s", job, error)
        case _:
            log.error("%s", job, exc_info=error)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(run(Path(sys.argv[1]), Path(sys.argv[2])))
