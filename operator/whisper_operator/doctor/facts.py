"""What was read of a cluster, as the checks get it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from whisper_operator.config import Settings
from whisper_operator.doctor.finding import Gap, Subject
from whisper_operator.kube.kinds import DEPLOYMENT, Kind
from whisper_operator.kube.objects import Raw
from whisper_operator.policy.rules import Policy

Objects = tuple[Raw, ...]

OPERATOR = "whisper-operator"
"""The operator's Deployment, and the namespace where it is usually installed."""


@dataclass(frozen=True)
class File:
    """One that the operator reads."""

    name: str
    """Of the file, such as config.yaml."""
    config_map: str
    """That has it; empty: none of those that the pods mount."""
    content: str | Gap | None
    """None: it is not there."""


@dataclass(frozen=True)
class Installation:
    """One operator, by its Deployment."""

    deployment: Raw
    pods: Objects | Gap
    log: str | Gap
    """The ends of its pods' logs; "" if there is no pod."""
    config: File | None
    """None: it goes by the defaults."""
    policy_file: File | None
    """None: everything is allowed."""
    settings: Settings | None
    """None if they can't be read, or make no sense."""
    policy: Policy | None
    """Likewise."""
    faults: Mapping[str, str]
    """Why a file makes no sense, by its name."""
    lacking: tuple[str, ...] | Gap
    """Rights that it lacks, in words."""

    @property
    def namespace(self) -> str:
        return str(self.deployment["metadata"]["namespace"])

    @property
    def subject(self) -> Subject:
        return Subject.of(DEPLOYMENT.name, self.deployment)

    def looks_after(self, namespace: str) -> bool | None:
        """None: that can't be told."""
        if self.settings is None:
            return None
        return not self.settings.namespaces or namespace in self.settings.namespaces


@dataclass(frozen=True)
class Facts:
    now: datetime
    name: str | None
    """Of the one endpoint that was asked about; None: all."""
    crd: Raw | Gap | None
    endpoints: Objects | Gap
    objects: Mapping[Kind, Objects | Gap]
    """Children of endpoints, and what tells of them."""
    missing: frozenset[Kind]
    """Kinds that the cluster does not have."""
    installations: tuple[Installation, ...] | Gap
    everywhere: bool
    """Whether installations were looked for in every namespace."""
    nodes: Objects | Gap
    api_services: Objects | Gap
    quotas: Objects | Gap
    leases: Objects | Gap
    """Of all installations."""
    made_up: frozenset[str] = frozenset()
    """Namespaces with the Lease of an installation for the whole cluster, and without the rights of one."""
    answers: Mapping[str, "Answer"] = field(default_factory=dict)
    """Of DNS, by name."""


@dataclass(frozen=True)
class Answer:
    """What DNS says of a name."""

    addresses: tuple[str, ...] = ()
    """None: there is no such name, or it has none."""
    failure: str = ""
    """Why nobody can tell."""
