"""Fixtures of the tests on a real control plane."""

from collections.abc import Iterator

import pytest

from devcluster import Cluster
from devcluster.fixtures import cluster, namespace
from devcluster.installation import Operator, install

__all__ = ["cluster", "namespace"]


@pytest.fixture(scope="session")
def installed(cluster: Cluster) -> Cluster:
    """The shared cluster with the CRD, the ServiceAccount and the permissions of deploy/."""
    install(cluster)
    return cluster


@pytest.fixture(scope="module")
def operator(installed: Cluster) -> Iterator[Operator]:
    """The operator, running under its installed permissions; one for a module's tests."""
    with Operator(installed) as running:
        yield running.wait_until_working()
