"""pytest fixtures; a conftest imports them: `from devcluster.fixtures import cluster, namespace`."""

import secrets
from collections.abc import Iterator

import pytest

from devcluster.cluster import Cluster, shared


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One cluster for all tests; each works in namespaces of its own. $WHISPER_DEVCLUSTER names one that is up already."""
    with shared() as running:
        yield running


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """The name of a fresh namespace; its removal is started, not waited for, when the test ends."""
    name = f"test-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")
