"""Which API server to talk to, and with which credentials."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.request import getproxies_environment

from kubernetes.aio import client, config

from whisper_operator.kube.client import Api
from whisper_operator.kube.errors import NoCluster

DEFAULT_KUBECONFIG = "~/.kube/config"


def in_cluster() -> bool:
    """Whether to act as the pod's ServiceAccount; KUBECONFIG, when set, comes first."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ


@asynccontextmanager
async def connect() -> AsyncIterator[Api]:
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
        yield Api(connection)


def _no_cluster(error: Exception) -> str:
    if in_cluster():
        return f"cannot use the pod's ServiceAccount: {error}"
    files = os.environ.get("KUBECONFIG") or DEFAULT_KUBECONFIG
    if not any(os.path.exists(os.path.expanduser(each)) for each in files.split(os.pathsep)):
        return f"no cluster to work for: there is no {files}; let KUBECONFIG name a kubeconfig"
    return f"cannot use the kubeconfig {files}: {error}"
