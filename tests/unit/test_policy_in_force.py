"""What the main flow makes of a policy: that each look at an endpoint, and the weighing before it, goes by it."""

import pytest
from whisper_operator.informer.cache import Cache
from whisper_operator.kube.kinds import ENDPOINT
from whisper_operator.policy.reading import load
from whisper_operator.policy.rules import Policy
from whisper_operator.reconcile import weigh

from tests.unit.fleet import ABC, NEXT, PAUSED, Fleet
from tests.unit.making import SETTINGS, Body
from tests.unit.test_reconcile import KEY, Cluster

HOST = "w.example.com"
KEYS = {"secretName": "whisper-keys"}


def preset(more: str = "") -> Policy:
    return load(f'{{preset: multi-tenant, everywhere: {{hosts: ["*.example.com"]{more}}}}}', SETTINGS)


def put(cache: Cache, namespace: str, name: str, created: int, **spec: object) -> None:
    metadata: Body = {"namespace": namespace, "name": name, "uid": f"{namespace}-{name}"}
    metadata |= {"resourceVersion": f"{created}", "creationTimestamp": f"{created}"}
    cache.upsert(ENDPOINT, {"metadata": metadata, "spec": {"host": HOST, "auth": KEYS, **spec}})


@pytest.mark.parametrize(("more", "told"), [("", False), (", namesOthers: true", True)])
def test_a_tenant_that_asks_for_anothers_host_is_told_who_that_is_only_where_it_may_know(
    more: str, told: bool
) -> None:
    cluster = Cluster()
    put(cluster.cache, "shop", "holder", 1)
    put(cluster.cache, *KEY, 2)
    cluster.look(SETTINGS, preset(more))
    ready = cluster.told()
    assert ready["reason"] == "HostConflict"
    assert ("WhisperEndpoint holder in namespace shop" in ready["message"]) is told
    assert ("shop" in ready["message"]) is told


async def test_who_is_refused_is_known_before_the_first_is_told_who_has_a_host() -> None:
    """Else the owner would be told after a restart that a squatter has it, who has never got it."""
    cache = Cache()
    put(cache, "shop", "squatter", 1, image="evil.org/x")
    put(cache, *KEY, 2)
    assert cache.claimed_by_others(KEY)
    await weigh(cache.endpoints(), cache, SETTINGS, preset())
    assert cache.claimed_by_others(KEY) == []


@pytest.mark.parametrize(("more", "rolled"), [("", "a"), (", mayPause: true", "b")])
def test_a_tenants_annotation_holds_an_upgrade_only_where_it_may(more: str, rolled: str) -> None:
    fleet = Fleet(ABC)
    fleet.policy = preset(more)
    fleet.apply("a", annotations=PAUSED)
    fleet.restart(NEXT)
    fleet.run()
    assert fleet.rolled == [rolled]
