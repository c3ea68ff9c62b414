"""GKE's NEG controller: gives a Service that an Ingress refers to its network endpoint groups, and says so on the Service."""

import json

from devcluster.gke.client import Object
from devcluster.gke.store import Key, annotations_of
from devcluster.gke.workqueue import Retry
from devcluster.gke.world import DEFAULT_BACKEND, NEG_STATUS, World, backends_of, neg_for_ingress
from devcluster.nodes import ZONES

COMPONENT = "neg-controller"


async def sync(world: World, key: Key) -> float | None:
    """Make the Service's neg-status what its annotation and the Ingresses ask for."""
    service = world.services.get(key)
    if service is None or "deletionTimestamp" in service["metadata"]:
        return None
    ports = sorted(_ports(world, key, service)) if neg_for_ingress(service) else []
    problem = world.settings(key[0]).neg_error
    if ports and problem:
        message = f'Failed to sync NEG "{world.neg_name(key, ports[0])}" (will retry): {problem}'
        await world.recorder.report(service, "Warning", "SyncNetworkEndpointGroupFailed", message, COMPONENT)
        raise Retry(message)
    wanted = status(world, key, ports) if ports else None
    if annotations_of(service).get(NEG_STATUS) == wanted:
        return None
    if wanted is not None and (
        wait := world.seconds_left(service, "neg", world.settings(key[0]).neg_seconds)
    ):
        return wait
    path = f"/api/v1/namespaces/{key[0]}/services/{key[1]}"
    await world.client.merge(path, {"metadata": {"annotations": {NEG_STATUS: wanted}}}, COMPONENT)
    for port in ports:
        name = world.neg_name(key, port)
        target = f"{key[0]}/{key[1]}-{name}-/{port}-{port}-GCE_VM_IP_PORT-L7"
        message = f'Created NEG "{name}" for {target} in "{ZONES[0]}".'
        await world.recorder.report(service, "Normal", "Create", message, COMPONENT)
    return None


def status(world: World, service: Key, ports: list[int]) -> str:
    """The value of the neg-status annotation."""
    groups = {str(port): world.neg_name(service, port) for port in ports}
    return json.dumps({"network_endpoint_groups": groups, "zones": list(ZONES)}, separators=(",", ":"))


def port_number(service: Object, port: str | int) -> int | None:
    """The number of a Service's port given by number or name; None if it has no such port."""
    for candidate in service["spec"].get("ports", []):
        if port in (candidate["port"], candidate.get("name")):
            return int(candidate["port"])
    return None


def _ports(world: World, key: Key, service: Object) -> set[int]:
    if key == DEFAULT_BACKEND:
        return {80}
    ports = set()
    for referrer in world.by_service.to(key):
        ingress = world.ingresses.get(referrer)
        for name, port in backends_of(ingress) if ingress else []:
            number = port_number(service, port) if name == key[1] else None
            if number is not None:
                ports.add(number)
    return ports
