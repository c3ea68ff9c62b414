"""Which API server to talk to, and with which credentials."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.request import getproxies_environment

from kubernetes.aio import client, config

from whisper_operator.kube.client import REQUEST_SECONDS, Api
from whisper_operator.kube.errors import NoCluster

DEFAULT_KUBECONFIG = "~/.kube/config"
DEFAULT_NAMESPACE = "whisper-operator"
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def in_cluster() -> bool:
    """Whether to act as the pod's ServiceAccount; KUBECONFIG, when set, comes first."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ


def namespace() -> str:
    """The installation's own: the pod's, or else that of KUBECONFIG's context."""
    try:
        if in_cluster():
            return NAMESPACE_FILE.read_text().strip()
        _, context = config.list_kube_config_contexts(os.environ.get("KUBECONFIG") or DEFAULT_KUBECONFIG)
        return str(context["context"].get("namespace") or DEFAULT_NAMESPACE)
    except Exception as error:  # whatever is in the file
        raise NoCluster(_no_cluster(error)) from error


@asynccontextmanager
async def connect(request_seconds: float = REQUEST_SECONDS) -> AsyncIterator[Api]:
    """The API server of the pod's ServiceAccount, or else of KUBECONFIG. Raises NoCluster."""
    configuration = client.Configuration()
    try:
        if in_cluster():
            config.load_incluster_config(client_configuration=configuration)
        else:
            files = os.environ.get("KUBECONFIG") or DEFAULT_KUBECONFIG
            await config.load_kube_config(config_file=files, client_configuration=configuration)
    except Exception as error:  # whatever is in the file
        raise NoCluster(_no_cluster(error)) from error
    # Else aiohttp looks for proxies and a .netrc before each request, in a thread.
    configuration.client_session_kwargs = {"trust_env": bool(getproxies_environment())}
    async with client.ApiClient(configuration) as connection:
        yield Api(connection, request_seconds)


def _no_cluster(error: Exception) -> str:
    if in_cluster():
        return f"cannot use the pod's ServiceAccount: {error}"
    files = os.environ.get("KUBECONFIG") or DEFAULT_KUBECONFIG
    if not any(os.path.exists(os.path.expanduser(each)) for each in files.split(os.pathsep)):
        return f"no cluster to work for: there is no {files}; let KUBECONFIG name a kubeconfig"
    return f"cannot use the kubeconfig {files}: {error}"
