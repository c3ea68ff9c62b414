"""The CRD under the oldest Kubernetes that is supported, by that version's own code: what it may say, and what that may cost."""

import json
import subprocess
from typing import Any

import pytest
import yaml

from devcluster import build
from devcluster.installation import CRD
from release.chart import OLDEST_KUBERNETES, ROOT
from tests.cluster.support import EXAMPLES, endpoint
from tests.ship.programs import GO, program


def said(*resources: dict[str, Any]) -> list[str]:
    done = subprocess.run(
        [program("oldest"), CRD], input=json.dumps(resources), capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_it_is_the_version_that_is_promised() -> None:
    pinned = build.pinned("k8s.io/apiextensions-apiserver", (GO / "oldest" / "go.mod").read_text())
    assert pinned.startswith(f"v0.{OLDEST_KUBERNETES.removeprefix('1.')}.")
    assert f"Kubernetes | {OLDEST_KUBERNETES} to " in (ROOT / "docs" / "support.md").read_text()


def test_it_takes_the_crd() -> None:
    assert said() == []


def test_it_takes_every_example() -> None:
    resources = [
        each
        for path in sorted(EXAMPLES.glob("*.yaml"))
        for each in yaml.safe_load_all(path.read_text())
        if each["kind"] == "WhisperEndpoint"
    ]
    assert len(resources) > 8
    assert said(*resources) == []


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"networkPolicy": {"egress": [{"cidr": "10.0.0.1/8"}]}},
            "a cidr is an address and the length of its prefix",
        ),
        (
            {"networkPolicy": {"egress": [{"cidr": "10.0.0.0/8", "namespace": "a"}]}},
            "cidr and namespace exclude each other",
        ),
        ({"resources": {"requests": {"cpu": 0}}}, "CPU cores are more than 0"),
        ({"replicas": 2, "autoscaling": {"max": 3}}, "replicas and autoscaling exclude each other"),
        ({"model": "large-v9"}, "model"),
    ],
    ids=str,
)
def test_its_rules_refuse_what_todays_refuse(spec: dict[str, Any], message: str) -> None:
    found = said(endpoint("whisper", "default", **spec))
    assert any(message in line for line in found), found
