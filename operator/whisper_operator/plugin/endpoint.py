"""The endpoint that is meant: whether it serves, where, and which Secret has its keys."""

from dataclasses import dataclass
from typing import Any

from whisper_operator.kube.kinds import ENDPOINT
from whisper_operator.kube.objects import condition
from whisper_operator.observed.foreign_words import printable
from whisper_operator.plugin.failure import NOT_BEGUN, Failure
from whisper_operator.plugin.kubectl import FORBIDDEN, NO_SUCH_KIND, NOT_FOUND, Kubectl, Refused

KIND = ENDPOINT.qualified
SHOWN = 10
"""Names of others that are told."""


@dataclass(frozen=True)
class Endpoint:
    resource: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.resource["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.resource["metadata"]["namespace"])

    @property
    def title(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def status(self) -> dict[str, Any]:
        return self.resource.get("status") or {}

    @property
    def url(self) -> str | None:
        """Where it is public."""
        return self.status.get("url")

    @property
    def secret(self) -> str | None:
        """The Secret with its API keys; None: it needs none."""
        return (self.resource["spec"].get("auth") or {}).get("secretName")

    def check_that_it_serves(self) -> None:
        """Raises Failure with what its status says."""
        available = condition(self.status, "Available")
        if available.get("status") == "True":
            return
        said = [available, condition(self.status, "Ready")]
        words = [f"{each['reason']}: {printable(each['message'])}" for each in said if each]
        because = "\n".join(dict.fromkeys(words)) or "it has no status: the operator has not seen it yet"
        raise Failure(
            f"WhisperEndpoint {self.title} serves nothing now. {because}\n"
            f"`kubectl whisper status {self.name} -n {self.namespace}` shows all of it.",
            NOT_BEGUN,
        )


def find(kubectl: Kubectl, name: str, namespace: str | None) -> Endpoint:
    """Raises Failure with what there is instead."""
    where = _in(namespace)
    try:
        return Endpoint(kubectl.get(KIND, name, *where))
    except Refused as refused:
        if refused.reason == NOT_FOUND:
            raise Failure(_not_found(kubectl, name, namespace), NOT_BEGUN) from None
        raise explained(refused, namespace) from None


def list_all(kubectl: Kubectl, namespace: str | None, everywhere: bool) -> list[Endpoint]:
    """Raises Failure."""
    where = ("--all-namespaces",) if everywhere else _in(namespace)
    try:
        return [Endpoint(each) for each in kubectl.get(KIND, *where)["items"]]
    except Refused as refused:
        raise explained(refused, namespace) from None


def explained(refused: Refused, namespace: str | None) -> Failure:
    """Why endpoints can't be read."""
    if refused.reason == NO_SUCH_KIND:
        return Failure(
            "this cluster has no WhisperEndpoints: whisper-operator is not installed there, or it is not the cluster that you "
            "mean (`kubectl config current-context` says which it is)",
            NOT_BEGUN,
        )
    if refused.reason == FORBIDDEN:
        where = "".join(f" {word}" for word in _in(namespace))
        return Failure(
            f"you may not read WhisperEndpoints here: {refused}\n"
            f"`kubectl auth can-i get {KIND}{where}` asks for it; the role view gives it.",
            NOT_BEGUN,
        )
    return refused


def _not_found(kubectl: Kubectl, name: str, namespace: str | None) -> str:
    here = namespace or "the namespace of kubectl's context"
    words = f"there is no WhisperEndpoint {name} in {here}"
    for everywhere, those in ((False, "there are"), (True, "in other namespaces there are")):
        try:
            others = list_all(kubectl, namespace, everywhere)
        except Failure:
            continue  # one more look, that may not be allowed
        names = sorted(each.title if everywhere else each.name for each in others)
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            return f"{words}; {those} {', '.join(names[:SHOWN])}{more}" + (
                " (-n NAMESPACE chooses one)" if everywhere else ""
            )
    return f"{words}, nor any other that you may see: `kubectl get whisperendpoints -A`"


def _in(namespace: str | None) -> tuple[str, ...]:
    return ("-n", namespace) if namespace else ()
