"""GKE's managed-certificate controller and the certificate authority behind it.

Each ManagedCertificate gets an SSL certificate in the project, whose status it shows. That becomes Active only once a load
balancer uses it. Its domains can't be changed: it is taken off the load balancers, deleted and made again under its name.
"""

import time
import uuid
from datetime import UTC, datetime, timedelta

from devcluster.gke.client import Object
from devcluster.gke.store import Key, annotations_of
from devcluster.gke.workqueue import Retry
from devcluster.gke.world import (
    PRE_SHARED_CERT,
    SSL_CERT,
    SslCertificate,
    World,
    certificates_of,
    is_gce,
    split,
)

COMPONENT = "managed-certificate-controller"

LIFETIME = timedelta(days=90)
DETACH_SECONDS = 1.0
"""The least time it takes to delete a certificate and make it again."""


async def sync(world: World, key: Key) -> float | None:
    """Bring the SSL certificate of a ManagedCertificate on its way, and the status up to date."""
    certificate = world.certificates.get(key)
    ssl = world.ssl.get(key)
    if certificate is None:
        return _delete(world, key, ssl) if ssl else None
    domains = tuple(sorted(set(certificate.get("spec", {}).get("domains") or [])))
    if ssl is None:
        ssl = _name(world, key, domains)
    if not ssl.made:
        await _make(world, key, certificate, ssl)
    if ssl.domains != domains:
        if (wait := _delete(world, key, ssl)) is not None:
            return wait
        await _report(world, certificate, "Delete", f"Delete SslCertificate {ssl.name}")
        ssl = _name(world, key, domains, ssl.name)
        await _make(world, key, certificate, ssl)
    elif ssl.doomed_at is not None:  # the old domains are back before it was deleted
        ssl.doomed_at = None
        world.doomed.discard((key[0], ssl.name))
        _wake_ingresses(world, key)
    wait = _walk(world, key, ssl)
    await _show(world, key, certificate, ssl, finished=wait == 0.0)
    return wait or None


async def sync_ingress(world: World, key: Key) -> float | None:
    """Write into an Ingress the names of the SSL certificates that its load balancer is to use."""
    ingress = world.ingresses.get(key)
    if ingress is None or not is_gce(ingress) or "deletionTimestamp" in ingress["metadata"]:
        return None
    namespace = key[0]
    for name in certificates_of(ingress):
        if world.certificates.get((namespace, name)) is None:
            # One that is missing keeps all others off the load balancer.
            message = f"ManagedCertificate {namespace}:{name} missing"
            await world.recorder.report(ingress, "Warning", "MissingCertificate", message, COMPONENT)
            raise Retry(message)
    # A certificate that the Ingress no longer asks for stays on it until its ManagedCertificate is deleted.
    present = annotations_of(ingress).get(PRE_SHARED_CERT, "")
    wanted = {name for name in split(present) if (namespace, name) not in world.doomed}
    for name in certificates_of(ingress):
        ssl = world.ssl.get((namespace, name))
        if ssl is not None and ssl.doomed_at is None:
            wanted.add(ssl.name)
    value = ",".join(sorted(wanted))
    if value != present:
        path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses/{key[1]}"
        await world.client.merge(path, {"metadata": {"annotations": {PRE_SHARED_CERT: value}}}, COMPONENT)
    return None


def _name(world: World, key: Key, domains: tuple[str, ...], name: str | None = None) -> SslCertificate:
    """Choose its name, by which Ingresses ask for it from now on."""
    ssl = SslCertificate(name or f"mcrt-{uuid.uuid4()}", domains)
    world.ssl[key] = ssl
    world.unmade.add((key[0], ssl.name))
    _wake_ingresses(world, key)
    return ssl


async def _make(world: World, key: Key, certificate: Object, ssl: SslCertificate) -> None:
    """Have Google make it. Raises Retry where it does not, which an Event says, and nothing else."""
    problem = world.settings(key[0]).certificate_error
    if problem:
        reason = "TooManyCertificates" if "QUOTA_EXCEEDED" in problem else "BackendError"
        await world.recorder.report(certificate, "Warning", reason, problem, COMPONENT)
        raise Retry(problem)
    ssl.made = True
    world.unmade.discard((key[0], ssl.name))
    await _report(world, certificate, "Create", f"Create SslCertificate {ssl.name}")
    _wake_load_balancers(world, key)


def _delete(world: World, key: Key, ssl: SslCertificate) -> float | None:
    """Take it off the load balancers and delete it; returns in how many seconds to try again, None when it is gone."""
    if ssl.doomed_at is None:
        ssl.doomed_at = time.monotonic()
        world.doomed.add((key[0], ssl.name))
        _wake_ingresses(world, key)
    if _in_use(world, key, ssl) or time.monotonic() < ssl.doomed_at + DETACH_SECONDS:
        return DETACH_SECONDS / 2
    del world.ssl[key]
    world.doomed.discard((key[0], ssl.name))
    world.unmade.discard((key[0], ssl.name))
    return None


def _walk(world: World, key: Key, ssl: SslCertificate) -> float | None:
    """Seconds until the certificate authority has decided, 0 when it has, None while no load balancer uses the certificate."""
    if ssl.attached_at is None:
        if not _in_use(world, key, ssl):
            return None
        ssl.attached_at = time.monotonic()
    return max(0.0, ssl.attached_at + world.settings(key[0]).certificate_seconds - time.monotonic())


def _in_use(world: World, key: Key, ssl: SslCertificate) -> bool:
    for referrer in world.by_ssl.to((key[0], ssl.name)):
        ingress = world.ingresses.get(referrer)
        if ingress is not None and ssl.name in split(annotations_of(ingress).get(SSL_CERT, "")):
            return True
    return False


async def _show(world: World, key: Key, certificate: Object, ssl: SslCertificate, *, finished: bool) -> None:
    before = certificate.get("status") or {}
    same = before.get("certificateName") == ssl.name and ssl.attached_at is not None
    shown = before.get("certificateStatus") if same else None
    outcomes = dict.fromkeys(ssl.domains, ("Provisioning", "Provisioning"))
    if finished:
        outcomes = {domain: world.settings(key[0]).outcome(domain) for domain in ssl.domains}
    overall = next(
        (status for status, _ in outcomes.values() if status != "Active"),
        "Active" if outcomes else "Provisioning",
    )
    if shown == "ProvisioningFailedPermanently" or (shown == "Active" and overall != "RenewalFailed"):
        return  # the one for good, the other until it has to be renewed
    status = {
        "certificateName": ssl.name,
        "certificateStatus": overall,
        "domainStatus": [{"domain": domain, "status": outcomes[domain][1]} for domain in ssl.domains],
        "expireTime": before.get("expireTime") if shown == "Active" else None,
    }
    if overall == "Active":
        status["expireTime"] = (datetime.now(UTC) + LIFETIME).strftime("%Y-%m-%dT%H:%M:%S.000-00:00")
    if any(before.get(name) != value for name, value in status.items() if name != "expireTime"):
        path = f"/apis/networking.gke.io/v1/namespaces/{key[0]}/managedcertificates/{key[1]}"
        await world.client.merge(path, {"status": status}, COMPONENT)


def _wake_ingresses(world: World, key: Key) -> None:
    ssl = world.ssl.get(key)
    named = world.by_certificate.to(key) + (world.by_ssl.to((key[0], ssl.name)) if ssl else [])
    for referrer in named:
        world.queue.add(("certificates of ingress", referrer))


def _wake_load_balancers(world: World, key: Key) -> None:
    for referrer in world.by_certificate.to(key):
        world.queue.add(("ingress", referrer))


async def _report(world: World, certificate: Object, reason: str, message: str) -> None:
    await world.recorder.report(certificate, "Normal", reason, message, COMPONENT)
