"""What every child has in common: its identity, its labels and its owner."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from whisper_operator.kube.kinds import (
    APP_NAME,
    ENDPOINT,
    ENDPOINT_LABEL,
    FIELD_MANAGER,
    MANAGED_BY_LABEL,
    NAME_LABEL,
    Kind,
)
from whisper_operator.spec.endpoint import WhisperEndpoint


@dataclass(frozen=True)
class Manifest:
    """One child as it should be: `body` is what server-side apply declares, and nothing that others may decide."""

    kind: Kind
    namespace: str
    name: str
    body: Mapping[str, Any]
    expected_resource_version: int | None = None
    """resourceVersion of the live object that a part of `body` was taken from: it is not written over a newer one."""


def manifest(
    kind: Kind,
    endpoint: WhisperEndpoint,
    spec: Mapping[str, Any],
    *,
    name: str | None = None,
    annotations: Mapping[str, str] | None = None,
    expected_resource_version: int | None = None,
) -> Manifest:
    """A child of `endpoint`, named after it unless `name` says otherwise.

    Labels and annotations of the endpoint itself are not copied: tools such as Argo CD would claim the children by them.
    """
    metadata: dict[str, Any] = {
        "name": name or endpoint.name,
        "namespace": endpoint.namespace,
        "labels": labels(endpoint),
    }
    if annotations:
        metadata["annotations"] = dict(annotations)
    if endpoint.uid is not None and kind.owned:
        metadata["ownerReferences"] = [_owner(endpoint, endpoint.uid)]
    body = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, "spec": spec}
    return Manifest(kind, endpoint.namespace, metadata["name"], body, expected_resource_version)


def labels(endpoint: WhisperEndpoint) -> dict[str, str]:
    """On every child, and on every pod."""
    return {NAME_LABEL: APP_NAME, MANAGED_BY_LABEL: FIELD_MANAGER, ENDPOINT_LABEL: endpoint.name}


def selector(name: str) -> dict[str, str]:
    """The labels that find an endpoint's pods; a Deployment can never change them."""
    return {NAME_LABEL: APP_NAME, ENDPOINT_LABEL: name}


def _owner(endpoint: WhisperEndpoint, uid: str) -> dict[str, Any]:
    return {
        "apiVersion": ENDPOINT.api_version,
        "kind": ENDPOINT.name,
        "name": endpoint.name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
