"""Reading all that the checks look at: everything at once, each as far as its reader may."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from whisper_operator.config import Settings
from whisper_operator.doctor import rights
from whisper_operator.doctor.checks import configuration
from whisper_operator.doctor.facts import OPERATOR, Facts, File, Installation, Objects
from whisper_operator.doctor.finding import Gap
from whisper_operator.doctor.reading import Reader
from whisper_operator.kube.access_review import of_installation
from whisper_operator.kube.kinds import (
    API_SERVICE,
    CHILDREN,
    CONFIG_MAP,
    CRD,
    DEPLOYMENT,
    ENDPOINT,
    ENDPOINT_LABEL,
    EVENT,
    LEASE,
    NODE,
    OURS,
    POD,
    QUOTA,
    REPLICA_SET,
    WARNINGS,
)
from whisper_operator.kube.objects import Raw
from whisper_operator.leader.installations import CLAIM, LEADER, SELECTOR, account, is_rival

LOG_LINES, LOG_BYTES = 400, 1 << 18
MOST_PODS = 5
MOST_NAMESPACES = 20
"""In which the rights of an installation for some are looked at."""
IN_SCOPE = (*CHILDREN, REPLICA_SET, POD)


class NoSuchEndpoint(Exception):
    """There is none of the name that was asked for."""


@dataclass(frozen=True)
class Asked:
    namespace: str | None
    """None: all."""
    name: str | None = None
    """None: all endpoints there."""


async def gather(reader: Reader, asked: Asked) -> Facts:
    """Raises NoSuchEndpoint."""
    async with asyncio.TaskGroup() as group:
        where, start = asked.namespace, group.create_task
        labels = f"{OURS},{ENDPOINT_LABEL}={asked.name}" if asked.name else OURS
        crd = start(reader.get(CRD, None, ENDPOINT.qualified))
        endpoints = start(_endpoints(reader, asked))
        objects = {kind: start(reader.list(kind, where, labels=labels)) for kind in IN_SCOPE}
        objects[EVENT] = start(reader.list(EVENT, where, fields=WARNINGS))
        operators = start(_operators(reader))
        nodes = start(reader.list(NODE, None, keep=_node))
        services = start(reader.list(API_SERVICE, None))
        quotas = start(reader.list(QUOTA, where))
        leases = start(_leases(reader))
    found, everywhere = operators.result()
    if asked.name and endpoints.result() == () and crd.result() is not None:
        raise NoSuchEndpoint(f"there is no {ENDPOINT.name} {asked.name} in namespace {asked.namespace}")
    installations: tuple[Installation, ...] | Gap = (
        found
        if isinstance(found, Gap)
        else tuple(await asyncio.gather(*(_installation(reader, each, asked) for each in found)))
    )
    return Facts(
        now=datetime.now(UTC),
        name=asked.name,
        crd=crd.result(),
        endpoints=endpoints.result(),
        objects={kind: each.result() for kind, each in objects.items()},
        missing=frozenset(reader.missing),
        installations=installations,
        everywhere=everywhere,
        nodes=nodes.result(),
        api_services=services.result(),
        quotas=quotas.result(),
        leases=leases.result(),
        made_up=await _made_up(reader, leases.result()),
    )


async def _endpoints(reader: Reader, asked: Asked) -> Objects | Gap:
    if asked.name is None:
        return await reader.list(ENDPOINT, asked.namespace)
    found = await reader.get(ENDPOINT, asked.namespace, asked.name)
    return found if isinstance(found, Gap) else (found,) if found is not None else ()


async def _operators(reader: Reader) -> tuple[Objects | Gap, bool]:
    """The Deployments of all operators, and whether they were looked for everywhere; else it is where one usually is."""
    everywhere = await reader.list(DEPLOYMENT, None, fields=f"metadata.name={OPERATOR}")
    if not isinstance(everywhere, Gap):
        return everywhere, True
    usual = await reader.get(DEPLOYMENT, OPERATOR, OPERATOR)
    return (usual if isinstance(usual, Gap) else (usual,) if usual is not None else ()), False


async def _installation(reader: Reader, deployment: Raw, asked: Asked) -> Installation:
    namespace = deployment["metadata"]["namespace"]
    pods, config, policy_file = await asyncio.gather(
        reader.list(POD, namespace, labels=SELECTOR),
        _file(reader, deployment, "config"),
        _file(reader, deployment, "policy"),
    )
    settings, policy, faults = configuration.understood(config, policy_file)
    log, lacking = await asyncio.gather(_log(reader, pods), _lacking(reader, deployment, settings, asked))
    return Installation(deployment, pods, log, config, policy_file, settings, policy, faults, lacking)


async def _leases(reader: Reader) -> Objects | Gap:
    """Of all installations; by their names, so that nobody can make more of them than two in a namespace."""
    found: Objects = ()
    for name in (LEADER, CLAIM):
        some = await reader.list(LEASE, None, labels=SELECTOR, fields=f"metadata.name={name}")
        if isinstance(some, Gap):
            return some
        found += some
    return found


async def _made_up(reader: Reader, leases: Objects | Gap) -> frozenset[str]:
    """Anybody who may write Leases in a namespace can make one that looks like another installation's."""
    if isinstance(leases, Gap):
        return frozenset()
    accounts = [account(each) for each in leases if is_rival(each, own="")]
    if len(accounts) < 2:
        return frozenset()
    answers = await asyncio.gather(*(reader.allowed(of_installation(each)) for each in accounts))
    return frozenset(
        namespace for (namespace, _), answer in zip(accounts, answers, strict=True) if answer is False
    )


async def _file(reader: Reader, deployment: Raw, option: str) -> File | None:
    name = configuration.named(deployment, option)
    if name is None:
        return None
    namespace, maps = deployment["metadata"]["namespace"], configuration.config_maps(deployment)
    content: str | Gap | None = None
    for each in maps:
        read = await reader.get(CONFIG_MAP, namespace, each)
        if isinstance(read, Gap):
            content = read
        elif read is not None and name in (read.get("data") or {}):
            return File(name, each, str(read["data"][name]))
    return File(name, maps[0] if len(maps) == 1 else "", content)


async def _log(reader: Reader, pods: Objects | Gap) -> str | Gap:
    """The ends of the pods' logs, one after the other, that of the newest pod last."""
    if isinstance(pods, Gap):
        return pods
    some = sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp")))[-MOST_PODS:]
    logs = await asyncio.gather(
        *(
            reader.log(
                pod["metadata"]["namespace"],
                pod["metadata"]["name"],
                pod["spec"]["containers"][0]["name"],
                lines=LOG_LINES,
                most=LOG_BYTES,
            )
            for pod in some
        )
    )
    read = [each for each in logs if not isinstance(each, Gap)]
    return "\n".join(read) if read or not logs else logs[-1]


async def _lacking(
    reader: Reader, deployment: Raw, settings: Settings | None, asked: Asked
) -> tuple[str, ...] | Gap:
    if settings is None:
        return Gap("", "its configuration says in which namespaces it needs them, and is not known")
    user = rights.account_of(deployment)
    those = [each for each in settings.namespaces if asked.namespace in (None, each)]
    namespaces = (those or list(settings.namespaces))[:MOST_NAMESPACES]
    questions = [
        (right, namespace)
        for right, namespace in rights.needed(user[0], namespaces)
        if right.kind not in reader.missing or right.kind is ENDPOINT
    ]
    answers: list[bool | Gap] = []
    # Whoever may not ask once need not ask a hundred times.
    for some in (questions[:1], questions[1:]):
        reviews = (rights.review(right, user, namespace) for right, namespace in some)
        answers += await asyncio.gather(*map(reader.allowed, reviews))
        if gap := next((each for each in answers if isinstance(each, Gap)), None):
            return gap
    lacking: dict[str | None, list[rights.Right]] = {}
    for (right, namespace), answer in zip(questions, answers, strict=True):
        if answer is False:
            lacking.setdefault(namespace, []).append(right)
    return tuple(rights.in_words(lacking))


def _node(raw: Raw) -> Raw:
    """Without its images, which are most of it."""
    metadata, status = raw["metadata"], raw.get("status") or {}
    return {
        "metadata": {name: metadata.get(name) for name in ("name", "uid", "labels", "creationTimestamp")},
        "spec": raw.get("spec") or {},
        "status": {name: status.get(name) for name in ("allocatable", "conditions")},
    }
