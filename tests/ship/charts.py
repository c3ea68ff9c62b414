"""The chart as Helm renders and installs it."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from release.chart import CHART
from tests.ship.programs import program

RELEASE = "whisper-operator"
NAMESPACE = "whisper-operator"

IMAGES = {
    "image": {"repository": "registry.example.com/whisper"},
    "server": {"version": "0.1.0"},
}
VALUES: dict[str, dict[str, Any]] = {
    "overlays/example": {**IMAGES, "podMonitoring": {"enabled": True}},
    "overlays/namespaced": {**IMAGES, "podMonitoring": {"enabled": True}, "namespaces": ["asr"]},
}
"""By the folder of deploy/ that the chart with these values is to be the same as."""

Object = dict[str, Any]
Objects = dict[tuple[str, str, str], Object]
"""By kind, namespace and name."""


class HelmError(Exception):
    """What Helm complained of."""


def helm(*arguments: str | Path, values: dict[str, Any] | None = None, kubeconfig: Path | None = None) -> str:
    """What `helm ARGUMENTS` prints. Raises HelmError."""
    home = program("helm").parent.parent / "helm-home"  # nothing of the person's own is read or written
    environment = os.environ | {f"HELM_{name}_HOME": str(home / name) for name in ("CACHE", "CONFIG", "DATA")}
    if kubeconfig is not None:
        environment["KUBECONFIG"] = str(kubeconfig)
    if values is not None:
        arguments = (*arguments, "--values", "-")
    done = subprocess.run(
        [program("helm"), *arguments],
        input="" if values is None else json.dumps(values),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise HelmError(done.stderr.strip())
    return done.stdout


def render(values: dict[str, Any], *options: str, chart: Path = CHART) -> Objects:
    return by_name(helm("template", RELEASE, chart, "--namespace", NAMESPACE, *options, values=values))


def by_name(text: str) -> Objects:
    objects: Objects = {}
    for each in filter(None, yaml.safe_load_all(text)):
        name = (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"])
        assert name not in objects, f"{name} stands there twice"
        objects[name] = each
    return objects


def without_hashes(objects: Objects) -> Objects:
    """Kustomize's objects, without the hashes that tell a Deployment of another ConfigMap."""
    text = yaml.safe_dump_all(objects.values())
    return by_name(re.sub(r"name: whisper-operator-[a-z0-9]{10}\n", "name: whisper-operator\n", text))


def config(objects: Objects, name: str = "whisper-operator") -> dict[str, Any]:
    """The only file in a ConfigMap, read."""
    (text,) = objects["ConfigMap", NAMESPACE, name]["data"].values()
    read: dict[str, Any] = yaml.safe_load(text)
    return read
