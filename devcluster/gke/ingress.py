"""GKE's load balancer controller: makes a load balancer of each Ingress of class gce, or says in an Event why it can't.

The steps, their order and the words of each failure are those of ingress-gce. A failure is tried again with growing delays and
at every change of a watched object; Secrets are not watched, so a missing one is noticed at the next try.
"""

import json
from dataclasses import dataclass

from devcluster.gke import negs, policies
from devcluster.gke.client import ApiError, Object
from devcluster.gke.store import Key, annotations_of
from devcluster.gke.workqueue import Retry
from devcluster.gke.world import (
    DEFAULT_BACKEND,
    FRONTEND_CONFIG,
    NEG_STATUS,
    PRE_SHARED_CERT,
    SSL_CERT,
    World,
    backends_of,
    is_gce,
    neg_for_ingress,
    short_hash,
    split,
)
from devcluster.nodes import PROJECT, ZONES

COMPONENT = "loadbalancer-controller"
MANAGER = "glbc"
FINALIZER = "networking.gke.io/ingress-finalizer-V2"
ALLOW_HTTP = "kubernetes.io/ingress.allow-http"
STATIC_IP = "kubernetes.io/ingress.global-static-ip-name"
PREFIX = "ingress.kubernetes.io"

MAX_CERTIFICATES = 15

BOTH_DISABLED = (
    "invalid configuration: both HTTP and HTTPS are disabled (kubernetes.io/ingress.allow-http is false and there is no"
    " valid TLS configuration); your Ingress will not be able to serve any traffic"
)


class SyncError(Exception):
    """A step failed: the Event's reason and message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Frontend:
    """What a load balancer serves at: its certificates' names, and whether it speaks HTTP and redirects it."""

    certificates: tuple[str, ...]
    http: bool
    redirect: bool


async def sync(world: World, key: Key) -> float | None:
    """Bring one load balancer in line with its Ingress; returns in how many seconds to look again."""
    ingress = world.ingresses.get(key)
    if ingress is None:
        return None
    if "deletionTimestamp" in ingress["metadata"] or not is_gce(ingress):
        return await _clean_up(world, key, ingress)
    try:
        return await _sync(world, key, await _ensure_finalizer(world, key, ingress))
    except SyncError as error:
        await world.recorder.report(ingress, "Warning", error.reason, str(error), COMPONENT)
        raise Retry(str(error)) from error


async def _sync(world: World, key: Key, ingress: Object) -> float | None:
    backends = _translate(world, key, ingress)
    _require_groups(world, backends)
    await _require_secrets(world, key, ingress)
    frontend = await _frontend(world, key, ingress)
    _require_address(world, key, ingress)
    settings = world.settings(key[0])
    if settings.sync_error:
        raise _sync_error("load balancer", settings.sync_error)
    if settings.no_address:
        return None
    if not _address_of(ingress) and (
        wait := world.seconds_left(ingress, "address", settings.address_seconds)
    ):
        return wait
    await _serve(world, key, ingress, backends, frontend)
    services = list(dict.fromkeys(service for service, _ in backends))
    await policies.attach(world, key, ingress, services, https=bool(frontend.certificates))
    return None


async def _ensure_finalizer(world: World, key: Key, ingress: Object) -> Object:
    metadata = ingress["metadata"]
    finalizers = metadata.get("finalizers", [])
    if FINALIZER in finalizers:
        return ingress
    await world.recorder.report(ingress, "Normal", "Sync", "Scheduled for sync", COMPONENT)
    change = {"finalizers": [*finalizers, FINALIZER], "resourceVersion": metadata["resourceVersion"]}
    return await world.client.merge(_path(key), {"metadata": change}, MANAGER)


async def _clean_up(world: World, key: Key, ingress: Object) -> float | None:
    """Delete the load balancer, which takes a while, and let go of the Ingress."""
    metadata = ingress["metadata"]
    finalizers = metadata.get("finalizers", [])
    if FINALIZER not in finalizers:
        return None
    if wait := world.seconds_left(ingress, "clean-up", world.settings(key[0]).finalizer_seconds):
        return wait
    await policies.detach(world, key)
    rest = [finalizer for finalizer in finalizers if finalizer != FINALIZER]
    change = {"finalizers": rest, "resourceVersion": metadata["resourceVersion"]}
    await world.client.merge(_path(key), {"metadata": change}, MANAGER)
    return None


def _translate(world: World, key: Key, ingress: Object) -> list[tuple[Key, int]]:
    """The Services and port numbers behind the load balancer, the default backend's included."""
    found: dict[tuple[Key, int], None] = {}
    errors = []
    for name, port in backends_of(ingress):
        service_key = (key[0], name)
        service = world.services.get(service_key)
        where = f'"{key[0]}/{name}"'
        if service is None:
            errors.append(f"could not find service {where}")
        elif (number := negs.port_number(service, port)) is None:
            errors.append(f'could not find port "{port}" in service {where}')
        elif not neg_for_ingress(service) and (kind := service["spec"]["type"]) not in (
            "NodePort",
            "LoadBalancer",
        ):
            errors.append(
                f'service {where} is type "{kind}", expected "NodePort" or "LoadBalancer" when not using NEGs'
            )
        elif (problem := _backend_config_problem(world, key[0], service, number)) is not None:
            errors.append(f'error getting BackendConfig for port "{port}" on service {where}, err: {problem}')
        else:
            found[service_key, number] = None
    if errors:
        raise SyncError("Translate", f"Translation failed: invalid ingress spec: {'; '.join(errors)}")
    if "defaultBackend" not in ingress["spec"]:
        found[DEFAULT_BACKEND, 80] = None
    return list(found)


def _backend_config_problem(world: World, namespace: str, service: Object, port: int) -> str | None:
    try:
        name = policies.backend_config(service, port)
    except (ValueError, AttributeError):
        return "BackendConfig annotation is invalid json"
    if name and world.backends.get((namespace, name)) is None:
        return "no BackendConfig for service port exists."
    return None


def _require_groups(world: World, backends: list[tuple[Key, int]]) -> None:
    for service_key, port in backends:
        service = world.services.get(service_key)
        if service is not None and neg_for_ingress(service) and NEG_STATUS not in annotations_of(service):
            group = f"projects/{PROJECT}/zones/{ZONES[0]}/networkEndpointGroups/{world.neg_name(service_key, port)}"
            raise _sync_error(
                "backend", f"googleapi: Error 404: The resource '{group}' was not found, notFound"
            )


async def _require_secrets(world: World, key: Key, ingress: Object) -> None:
    for tls in ingress["spec"].get("tls", []):
        name = tls.get("secretName", "")
        if not name:
            raise _sync_error("load balancer", 'secret "" does not exist')
        try:
            secret = await world.client.get(f"/api/v1/namespaces/{key[0]}/secrets/{name}")
        except ApiError as error:
            if error.code != 404:
                raise
            problem = f'error initializing translator env: secrets "{name}" not found'
            raise _sync_error("load balancer", problem) from error
        data = secret.get("data") or {}
        for field, what in (("tls.crt", "cert"), ("tls.key", "private key")):
            if field not in data:
                raise _sync_error("load balancer", f'secret "{name}" does not specify {what} as string data')


async def _frontend(world: World, key: Key, ingress: Object) -> Frontend:
    annotations = annotations_of(ingress)
    config = None
    if name := annotations.get(FRONTEND_CONFIG):
        config = world.frontends.get((key[0], name))
        if config is None:  # said, but no reason to stop
            message = "Error: no FrontendConfig for Ingress exists."
            await world.recorder.report(ingress, "Warning", "Sync", message, COMPONENT)
    pre_shared = split(annotations.get(PRE_SHARED_CERT, ""))
    unmade = {name for name in pre_shared if (key[0], name) in world.unmade}
    for missing in sorted(unmade | world.settings(key[0]).missing_certificates.intersection(pre_shared)):
        what = f"projects/{PROJECT}/global/sslCertificates/{missing}"
        raise _sync_error(
            "load balancer", f"googleapi: Error 404: The resource '{what}' was not found, notFound"
        )
    secrets = [tls["secretName"] for tls in ingress["spec"].get("tls", [])]
    from_secrets = [f"k8s2-cr-{world.cluster_id}-{short_hash(*key)}-{short_hash(name)}" for name in secrets]
    certificates = (*pre_shared, *from_secrets)
    if len(certificates) > MAX_CERTIFICATES:
        raise _sync_error(
            "load balancer",
            f"googleapi: Error 403: Exceeded limit of {MAX_CERTIFICATES} SSL certificates on a target HTTPS proxy,"
            " limitExceeded",
        )
    # As strconv.ParseBool reads it; what it can't read means true.
    http = annotations.get(ALLOW_HTTP, "true") not in ("0", "f", "F", "false", "FALSE", "False")
    if not http and not certificates:
        raise _sync_error("load balancer", BOTH_DISABLED)
    redirect = bool(config and config.get("spec", {}).get("redirectToHttps", {}).get("enabled"))
    return Frontend(certificates, http, redirect)


def _require_address(world: World, key: Key, ingress: Object) -> None:
    name = annotations_of(ingress).get(STATIC_IP)
    if name in world.settings(key[0]).missing_static_ips:
        raise _sync_error(
            "load balancer", f"the given static IP name {name} doesn't translate to an existing static IP."
        )


async def _serve(
    world: World, key: Key, ingress: Object, backends: list[tuple[Key, int]], frontend: Frontend
) -> None:
    """Write what there is now into the Ingress: names of the load balancer's parts, backends' health, and the address."""
    name = f"{world.cluster_id}-{key[0][:18]}-{key[1][:18]}-{short_hash(world.cluster_id, *key)}"
    https = bool(frontend.certificates)
    wanted: dict[str, str | None] = {
        f"{PREFIX}/url-map": f"k8s2-um-{name}",
        f"{PREFIX}/redirect-url-map": f"k8s2-rm-{name}" if https and frontend.redirect else None,
        f"{PREFIX}/target-proxy": f"k8s2-tp-{name}" if frontend.http else None,
        f"{PREFIX}/forwarding-rule": f"k8s2-fr-{name}" if frontend.http else None,
        f"{PREFIX}/https-target-proxy": f"k8s2-ts-{name}" if https else None,
        f"{PREFIX}/https-forwarding-rule": f"k8s2-fs-{name}" if https else None,
        SSL_CERT: ",".join(frontend.certificates) or None,
        f"{PREFIX}/backends": json.dumps(
            {world.neg_name(*backend): _health(world, backend[0]) for backend in backends},
            separators=(",", ":"),
        ),
    }
    annotations = annotations_of(ingress)
    for part, what in (
        ("url-map", "UrlMap"),
        ("target-proxy", "TargetProxy"),
        ("forwarding-rule", "ForwardingRule"),
        ("https-target-proxy", "TargetProxy"),
        ("https-forwarding-rule", "ForwardingRule"),
    ):
        made = wanted[f"{PREFIX}/{part}"]
        if made and f"{PREFIX}/{part}" not in annotations:
            await world.recorder.report(ingress, "Normal", "Sync", f'{what} "{made}" created', COMPONENT)
    address = _address(ingress)
    if _address_of(ingress) != address:
        status = {"loadBalancer": {"ingress": [{"ip": address}]}}
        await world.client.merge(f"{_path(key)}/status", {"status": status}, MANAGER)
        await world.recorder.report(ingress, "Normal", "IPChanged", f"IP is now {address}", COMPONENT)
    change = {part: value for part, value in wanted.items() if annotations.get(part) != value}
    if change:
        await world.client.merge(_path(key), {"metadata": {"annotations": change}}, MANAGER)


def _health(world: World, service: Key) -> str:
    conditions = [
        endpoint.get("conditions", {})
        for slice_key in world.slices_by_service.to(service)
        for endpoint in (world.slices.get(slice_key) or {}).get("endpoints") or []
    ]
    if not conditions:
        return "Unknown"
    return "HEALTHY" if any(condition.get("ready") for condition in conditions) else "UNHEALTHY"


def _address_of(ingress: Object) -> str | None:
    """The address in the Ingress's status."""
    given = ingress.get("status", {}).get("loadBalancer", {}).get("ingress") or [{}]
    address: str | None = given[0].get("ip")
    return address


def _address(ingress: Object) -> str:
    """The address of the load balancer: the static one's, or one of its own. From a range set aside for tests of networks."""
    static = annotations_of(ingress).get(STATIC_IP)
    digest = int(short_hash("address", static or ingress["metadata"]["uid"]), 16)
    return f"198.{18 + digest % 2}.{digest // 2 % 256}.{1 + digest // 512 % 254}"


def _sync_error(routine: str, problem: str) -> SyncError:
    return SyncError("Sync", f"Error syncing to GCP: error running {routine} syncing routine: {problem}")


def _path(key: Key) -> str:
    return f"/apis/networking.k8s.io/v1/namespaces/{key[0]}/ingresses/{key[1]}"
