"""What the operator needs the right to do, and how to ask whether it has it: deploy/base/rbac.yaml in another form."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from whisper_operator.kube import access_review
from whisper_operator.kube.access_review import Account
from whisper_operator.kube.kinds import (
    ACCESS_REVIEW,
    CHILDREN,
    CRD,
    DEPLOYMENT,
    ENDPOINT,
    EVENT,
    LEASE,
    WITNESSES,
    Kind,
)
from whisper_operator.kube.objects import Raw
from whisper_operator.leader.installations import CLAIM, LEADER


@dataclass(frozen=True)
class Right:
    verb: str
    kind: Kind
    subresource: str = ""
    name: str = ""
    """Of the only object that it is for; empty: all."""

    @property
    def resource(self) -> str:
        """As a role names it."""
        return self.kind.plural + (f"/{self.subresource}" if self.subresource else "")


WATCHING = ("list", "watch")
OF_ENDPOINTS = (
    *(Right(verb, ENDPOINT) for verb in WATCHING),
    Right("patch", ENDPOINT, "status"),
    Right("update", ENDPOINT, "finalizers"),
)
OF_CHILDREN = (
    *(Right(verb, kind) for kind in CHILDREN for verb in ("get", *WATCHING, "create", "patch", "delete")),
    Right("patch", DEPLOYMENT, "scale"),
)
OF_WITNESSES = (
    *(Right(verb, kind) for kind in WITNESSES for verb in WATCHING),
    Right("create", EVENT),
)
IN_NAMESPACES = (*OF_ENDPOINTS, *OF_CHILDREN, *OF_WITNESSES)
"""In each namespace that it looks after."""

IN_CLUSTER = (
    *(Right(verb, CRD) for verb in WATCHING),
    Right("list", LEASE),
    Right("create", ACCESS_REVIEW),
)
"""In the whole cluster, if it looks after all of it; else it does without."""


def of_lease(name: str) -> tuple[Right, ...]:
    """To hold one Lease."""
    return (Right("create", LEASE), *(Right(verb, LEASE, name=name) for verb in ("get", "update")))


def needed(home: str, namespaces: Sequence[str]) -> Iterator[tuple[Right, str | None]]:
    """All rights of an installation in the namespace `home`, and where: None is everywhere. `namespaces`: those that it looks
    after; none for all."""
    yield from ((right, home) for right in of_lease(LEADER))
    for namespace in namespaces:
        yield from ((right, namespace) for right in (*IN_NAMESPACES, *of_lease(CLAIM)))
    if not namespaces:
        yield from ((right, None) for right in (*IN_NAMESPACES, *IN_CLUSTER))


def review(right: Right, account: Account, namespace: str | None) -> dict[str, Any]:
    """The question whether a ServiceAccount has a right; namespace: None is all."""
    return access_review.review(
        account,
        right.verb,
        right.kind,
        subresource=right.subresource,
        name=right.name,
        namespace=namespace or "",
    )


def account_of(deployment: Raw) -> Account:
    """Whom an operator's requests are made as."""
    pod = deployment["spec"]["template"]["spec"]
    return deployment["metadata"]["namespace"], pod.get("serviceAccountName") or "default"


def in_words(lacking: dict[str | None, list[Right]]) -> Iterator[str]:
    """The rights that are lacking, by namespace: a part for each kind."""
    for namespace, rights in lacking.items():
        verbs: dict[str, list[str]] = {}
        for right in rights:
            name = right.resource + (f".{right.kind.group}" if right.kind.group else "")
            name += f" {right.name}" if right.name else ""
            verbs.setdefault(name, []).append(right.verb)
        where = f" in namespace {namespace}" if namespace else ""
        for name, found in verbs.items():
            yield f"{', '.join(found)} {name}{where}"
