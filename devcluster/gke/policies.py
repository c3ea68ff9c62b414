"""SSL and security policies of load balancers: a FrontendConfig or BackendConfig that names none leaves what is attached, and
only one that names "" takes it off.

What each load balancer has can be seen, as `gcloud` would show it, in the ConfigMap `gke-project` in kube-system: under
NAMESPACE.INGRESS, as {"sslPolicy": NAME, "securityPolicies": {SERVICE: NAME}}.
"""

import json

from devcluster.gke.client import Object
from devcluster.gke.store import Key, annotations_of
from devcluster.gke.world import BACKEND_CONFIG, FRONTEND_CONFIG, Attached, World

PROJECT = "/api/v1/namespaces/kube-system/configmaps/gke-project"
MANAGER = "glbc"


async def attach(world: World, key: Key, ingress: Object, services: list[Key], *, https: bool) -> None:
    """Bring the policies of one load balancer in line with what its FrontendConfig and its Services' BackendConfigs say."""
    known = world.policies.get(key)
    had = known or Attached()
    frontend = world.frontends.get((key[0], annotations_of(ingress).get(FRONTEND_CONFIG, "")))
    named = (frontend or {}).get("spec", {}).get("sslPolicy")
    # The policy is the HTTPS proxy's, and goes with it.
    has = Attached(ssl=(had.ssl if named is None else named) if https else "")
    for service in services:
        wanted = _security_policy(world, service)
        name = had.security.get(service[1], "") if wanted is None else wanted
        if name:
            has.security[service[1]] = name
    if has != known:
        await _show(world, key, has)


async def detach(world: World, key: Key) -> None:
    """The load balancer is gone, and its policies with it."""
    if key in world.policies:
        await _show(world, key, None)


def backend_config(service: Object, port: int) -> str | None:
    """The name of the BackendConfig of a Service's port. Raises ValueError or AttributeError if the annotation is no JSON."""
    text = annotations_of(service).get(BACKEND_CONFIG)
    if text is None:
        return None
    value = json.loads(text)
    name: str | None = value.get("ports", {}).get(str(port)) or value.get("default")
    return name


def _security_policy(world: World, key: Key) -> str | None:
    service = world.services.get(key)
    if service is None:
        return None
    names = {backend_config(service, port["port"]) for port in service["spec"]["ports"]}
    for name in sorted(each for each in names if each):
        policy = (world.backends.get((key[0], name)) or {}).get("spec", {}).get("securityPolicy")
        if policy is not None:
            return str(policy.get("name", ""))
    return None


async def _show(world: World, key: Key, has: Attached | None) -> None:
    text = None if has is None else json.dumps({"sslPolicy": has.ssl, "securityPolicies": has.security})
    await world.client.merge(PROJECT, {"data": {".".join(key): text}}, MANAGER)
    if has is None:
        del world.policies[key]
    else:
        world.policies[key] = has
