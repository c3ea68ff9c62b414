"""An upgrade of the operator restarts nothing: of what a release was given, this version makes the same pods."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from whisper_operator import manifests
from whisper_operator.config import Settings, parse
from whisper_operator.observed.children import Observed
from whisper_operator.spec import endpoint

RELEASES = sorted((Path(__file__).resolve().parent / "released").glob("*.yaml"))
ADDED = {"onprem": [{"name": "WHISPER_PROXIES", "value": "1"}]}
"""What an endpoint's server is told besides since its release, on purpose and with a release note: behind another ingress class
than GKE's, all users counted as one client."""
Case = tuple[Settings, dict[str, Any]]


def cases() -> list[Any]:
    """Of every release, the installation's settings, and each endpoint with what was made of it."""
    found = []
    for path in RELEASES:
        release = yaml.safe_load(path.read_text())
        settings = parse(release["installation"])
        found += [
            pytest.param(settings, each, id=f"{path.stem}-{each['name']}") for each in release["endpoints"]
        ]
    return found


@pytest.mark.parametrize(("settings", "released"), cases())
def test_the_pods_of_a_release_stay_as_they_are(settings: Settings, released: dict[str, Any]) -> None:
    """A change here restarts every endpoint in every cluster. Where that can't be avoided, it takes a release note."""
    resource = {"metadata": {"name": released["name"], "namespace": "default"}, "spec": released["spec"]}
    children = manifests.of(endpoint.parse(resource, settings), Observed.nothing(), settings)
    (deployment,) = (child.body for child in children if child.kind.name == "Deployment")
    template = deployment["spec"]["template"]
    server, added = template["spec"]["containers"][0], ADDED.get(released["name"], [])
    assert [each for each in server["env"] if each in added] == added
    server["env"] = [each for each in server["env"] if each not in added]
    assert template == released["template"]
    # A Deployment's selector can never change.
    assert deployment["spec"]["selector"] == released["selector"]
