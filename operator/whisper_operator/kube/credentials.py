"""Which API server to talk to, and with which credentials."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import getproxies_environment

from kubernetes.aio import client, config
from kubernetes.aio.config.kube_config import KubeConfigMerger

from whisper_operator.kube.client import REQUEST_SECONDS, Api
from whisper_operator.kube.errors import NoCluster
from whisper_operator.kube.kinds import FIELD_MANAGER

DEFAULT_KUBECONFIG = "~/.kube/config"
DEFAULT_NAMESPACE = "whisper-operator"
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Choice:
    """What somebody has said of it; else it is for the environment to say."""

    kubeconfig: str | None = None
    context: str | None = None
    """One of the kubeconfig's, else its current one."""

    @property
    def in_cluster(self) -> bool:
        """Whether to act as the pod's ServiceAccount; a kubeconfig that is named, as by KUBECONFIG, comes first."""
        named = self.kubeconfig or self.context or "KUBECONFIG" in os.environ
        return "KUBERNETES_SERVICE_HOST" in os.environ and not named

    @property
    def files(self) -> str:
        return self.kubeconfig or os.environ.get("KUBECONFIG") or DEFAULT_KUBECONFIG


def namespace(choice: Choice | None = None, default: str = DEFAULT_NAMESPACE) -> str:
    """One's own: the pod's, or else that of the kubeconfig's context. Raises NoCluster."""
    choice = choice or Choice()
    _look_for_kubeconfig(choice)
    try:
        if choice.in_cluster:
            return NAMESPACE_FILE.read_text().strip()
        if choice.context is not None:
            chosen = _named(choice.context, choice.files)
        else:
            _, chosen = config.list_kube_config_contexts(choice.files)
        return str((chosen.get("context") or {}).get("namespace") or default)
    except Exception as error:  # whatever is in the file
        raise NoCluster(_no_cluster(error, choice)) from error


def service_account() -> str:
    """The name of the pod's, as deploy/ tells it."""
    return os.environ.get("WHISPER_OPERATOR_SERVICE_ACCOUNT") or FIELD_MANAGER


@asynccontextmanager
async def connect(
    request_seconds: float = REQUEST_SECONDS, choice: Choice | None = None
) -> AsyncIterator[Api]:
    """The API server of the pod's ServiceAccount, or else of a kubeconfig. Raises NoCluster."""
    choice = choice or Choice()
    _look_for_kubeconfig(choice)
    configuration = client.Configuration()
    try:
        if choice.in_cluster:
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(
                config_file=choice.files, context=choice.context, client_configuration=configuration
            )
    except Exception as error:  # whatever is in the file
        raise NoCluster(_no_cluster(error, choice)) from error
    # Else aiohttp looks for proxies and a .netrc before each request, in a thread.
    configuration.client_session_kwargs = {"trust_env": bool(getproxies_environment())}
    async with client.ApiClient(configuration) as connection:
        yield Api(connection, request_seconds)


def _named(name: str, files: str) -> dict[str, Any]:
    """A context of a kubeconfig, which need not have a current one. Raises whatever its content makes it raise."""
    for context in KubeConfigMerger(files).config.value["contexts"]:
        if context["name"] == name:
            return dict(context.value)
    raise LookupError(f"it has no context {name}")


def _look_for_kubeconfig(choice: Choice) -> None:
    """Raise NoCluster if it is needed and not there, which the library would log as well."""
    if choice.in_cluster:
        return
    if not any(os.path.exists(os.path.expanduser(each)) for each in choice.files.split(os.pathsep)):
        raise NoCluster(
            f"no cluster to work for: there is no {choice.files}; let KUBECONFIG name a kubeconfig"
        )


def _no_cluster(error: Exception, choice: Choice) -> str:
    if choice.in_cluster:
        return f"cannot use the pod's ServiceAccount: {error}"
    return f"cannot use the kubeconfig {choice.files}: {error}"
