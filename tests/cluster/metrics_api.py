"""A custom metrics API, such as an adapter serves: every pod of a namespace has the in-flight requests that a test sets."""

import base64
import json
import ssl
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from devcluster import Cluster
from devcluster.waiting import eventually

GROUP, VERSION = "custom.metrics.k8s.io", "v1beta2"
ROOT = f"/apis/{GROUP}/{VERSION}"
SERVICE = "custom-metrics"


class MetricsApi:
    """Served by this process and registered at the cluster's API server while the block runs."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self.in_flight: dict[str, int] = {}
        """Requests in flight of each pod, by namespace."""
        self.silent: set[str] = set()
        """Namespaces of whose pods there are no figures."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(_certificate(cluster, folder / "metrics-api.pem"))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        port = self._server.server_address[1]
        # The API server leads what is asked of the group to this Service, which stands for a host name.
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": SERVICE, "namespace": "kube-system"},
            "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
        }
        registration = {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": f"{VERSION}.{GROUP}"},
            "spec": {
                "group": GROUP,
                "version": VERSION,
                "service": {"name": SERVICE, "namespace": "kube-system", "port": port},
                "insecureSkipTLSVerify": True,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        }
        self._cluster.apply(service, registration)

        def available() -> bool:
            found = self._cluster.get("apiservice", f"{VERSION}.{GROUP}").get("status", {})
            return any(
                (each["type"], each["status"]) == ("Available", "True")
                for each in found.get("conditions", [])
            )

        eventually(available, timeout=60, what="the custom metrics API available")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cluster.kubectl("delete", "apiservice", f"{VERSION}.{GROUP}")
        self._cluster.kubectl("delete", "service", SERVICE, "-n", "kube-system")
        self._server.shutdown()
        self._server.server_close()

    def answer(self, url: str) -> dict[str, Any]:
        """What GET of a path gives: the group's resources, or a metric of the pods that a selector finds."""
        split = urlsplit(url)
        parts = [unquote(part) for part in split.path.removeprefix(ROOT).split("/") if part]
        match parts:
            case ["namespaces", namespace, "pods", "*", metric]:
                selector = parse_qs(split.query).get("labelSelector", [""])[0]
                return self._metric(namespace, metric, selector)
            case _:
                return {
                    "kind": "APIResourceList",
                    "apiVersion": "v1",
                    "groupVersion": f"{GROUP}/{VERSION}",
                    "resources": [
                        {
                            "name": "pods/whisper_requests_in_flight",
                            "singularName": "",
                            "namespaced": True,
                            "kind": "MetricValueList",
                            "verbs": ["get"],
                        }
                    ],
                }

    def _metric(self, namespace: str, metric: str, selector: str) -> dict[str, Any]:
        found = self._cluster.get("pods", "-n", namespace, "-l", selector)["items"]
        pods = [] if namespace in self.silent else found
        stamp = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        items = [
            {
                "describedObject": {
                    "kind": "Pod",
                    "apiVersion": "v1",
                    "namespace": namespace,
                    "name": pod["metadata"]["name"],
                },
                "metric": {"name": metric},
                "timestamp": stamp,
                "value": str(self.in_flight.get(namespace, 0)),
            }
            for pod in pods
        ]
        return {
            "kind": "MetricValueList",
            "apiVersion": f"{GROUP}/{VERSION}",
            "metadata": {},
            "items": items,
        }


def _handler(api: MetricsApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = json.dumps(api.answer(self.path)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    return Handler


def _certificate(cluster: Cluster, path: Path) -> Path:
    """Any will do, as nobody checks it: the administrator's own."""
    user = yaml.safe_load(cluster.kubeconfig.read_text())["users"][0]["user"]
    parts = [base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key")]
    path.touch(mode=0o600)
    path.write_bytes(b"\n".join(parts))
    return path
