"""The objects of an endpoint, written by hand, to try the stand-in for GKE with."""

from typing import Any

from devcluster import Cluster
from devcluster.waiting import eventually

Object = dict[str, Any]

HOST = "a.example.com"


def service(namespace: str, **annotations: str) -> Object:
    """A Service with network endpoint groups for the pods labelled app=w; `annotations` are added."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "w",
            "namespace": namespace,
            "annotations": {"cloud.google.com/neg": '{"ingress":true}'} | annotations,
        },
        "spec": {"selector": {"app": "w"}, "ports": [{"name": "http", "port": 8000}]},
    }


def ingress(
    namespace: str, annotations: dict[str, str] | None = None, name: str = "w", **spec: Any
) -> Object:
    """An Ingress of class gce to that Service; with other `annotations`, and with `spec` added."""
    backend = {"service": {"name": "w", "port": {"name": "http"}}}
    rule = {"host": HOST, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    chosen = {"kubernetes.io/ingress.class": "gce"} if annotations is None else annotations
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": namespace, "annotations": chosen},
        "spec": {"rules": [rule]} | spec,
    }


def gce(annotations: dict[str, str] | None = None) -> dict[str, str]:
    """`annotations`, and those that make an Ingress one of class gce."""
    return {"kubernetes.io/ingress.class": "gce"} | (annotations or {})


def certificate(namespace: str, *domains: str, name: str = "w") -> Object:
    """A ManagedCertificate."""
    return {
        "apiVersion": "networking.gke.io/v1",
        "kind": "ManagedCertificate",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"domains": list(domains or (HOST,))},
    }


def settings(namespace: str, **data: str) -> Object:
    """The stand-in's settings for a namespace: quick, unless `data` says otherwise."""
    quick = {"addressSeconds": "0.1", "certificateSeconds": "0.3", "negSeconds": "0.2"}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "gke-stand-in", "namespace": namespace},
        "data": quick | data,
    }


def address(cluster: Cluster, namespace: str, name: str = "w") -> str | None:
    """The address of the Ingress, if it has one yet."""
    given = cluster.get("ingress", name, "-n", namespace)["status"]["loadBalancer"].get("ingress", [{}])
    found: str | None = given[0].get("ip")
    return found


def messages(
    cluster: Cluster, namespace: str, kind: str, reason: str, about: str = "Ingress", name: str = "w"
) -> list[str]:
    """What Events of a type and reason say about the object of a kind and name."""
    events = cluster.get("events", "-n", namespace)["items"]
    return [
        event["message"]
        for event in events
        if (event["type"], event["reason"]) == (kind, reason)
        and (event["involvedObject"]["kind"], event["involvedObject"]["name"]) == (about, name)
    ]


def await_message(cluster: Cluster, namespace: str, text: str, reason: str = "Sync", name: str = "w") -> str:
    """The Warning Event about the Ingress that contains `text`, once there is one."""

    def found() -> str | None:
        said = messages(cluster, namespace, "Warning", reason, name=name)
        return next((message for message in said if text in message), None)

    return eventually(found)
