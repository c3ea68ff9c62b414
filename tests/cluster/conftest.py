"""Fixtures of the tests on a real control plane."""

from collections.abc import Iterator

import pytest

from devcluster import Cluster
from devcluster.fixtures import cluster, namespace
from devcluster.installation import Operator, install
from tests.cluster import troubleshooting
from tests.cluster.health import Recorder
from tests.cluster.support import EXAMPLES, stopped, wait_for_condition

__all__ = ["cluster", "namespace"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-troubleshooting",
        action="store_true",
        help="write docs/troubleshooting.md from what the tests see",
    )
    parser.addoption(
        "--write-health",
        action="store_true",
        help="write the test data of deploy/argocd's health check from what the tests see",
    )


@pytest.fixture(autouse=True)
def hosts_are_free_again(request: pytest.FixtureRequest) -> Iterator[None]:
    """A namespace goes in its own time, and its endpoints have their hosts until then: the next test wants the same ones."""
    if not {"installed", "namespace"} <= set(request.fixturenames):
        yield
        return
    installed, namespace = request.getfixturevalue("installed"), request.getfixturevalue("namespace")
    yield
    installed.kubectl("delete", "wep", "--all", "-n", namespace, "--wait=false")


@pytest.fixture(scope="session")
def written(request: pytest.FixtureRequest) -> Iterator[list[troubleshooting.Entry] | None]:
    """What goes into docs/troubleshooting.md, where it is to be written anew; None: it is to be checked."""
    if not request.config.getoption("--write-troubleshooting"):
        yield None
        return
    entries: list[troubleshooting.Entry] = []
    yield entries
    troubleshooting.write(entries)


@pytest.fixture(scope="session")
def recorder(request: pytest.FixtureRequest) -> Iterator[Recorder]:
    """For the test data of deploy/argocd's health check: to be written anew, or to be checked."""
    recorder = Recorder(write=request.config.getoption("--write-health"))
    yield recorder
    recorder.close()


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


@pytest.fixture
def alone(operator: Operator) -> Iterator[None]:
    """The module's operator is down: for a test that runs one of its own, whose work another would do."""
    with stopped(operator):
        yield


@pytest.fixture
def settled(installed: Cluster, operator: Operator, namespace: str) -> Cluster:
    """The minimal example, Ready in the test's namespace."""
    installed.kubectl("apply", "-n", namespace, "-f", str(EXAMPLES / "minimal.yaml"))
    wait_for_condition(installed, namespace, "whisper")
    return installed


@pytest.fixture
def nothing_to_complain_about(operator: Operator) -> Iterator[None]:
    before = len(operator.complaints())
    yield
    assert operator.complaints()[before:] == []
