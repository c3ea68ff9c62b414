"""install.yaml: the CRD and the operator for all namespaces, as kustomize makes them of deploy/base, with the images' place."""

import os
import subprocess
import tempfile
from pathlib import Path

import yaml
from whisper_operator import __version__

from release.chart import DEPLOY, ROOT

HEAD = f"# whisper-operator {__version__}.\n"
WARNING = """\
# `kubectl apply -f` installs it. Never `kubectl delete -f` this file: with the CRD every endpoint would go. Delete operator.yaml,
# which is this file without the CRD.
"""


def files(repository: str, kubectl: Path) -> dict[str, str]:
    """crd.yaml, operator.yaml, and install.yaml, which is both."""
    crd, operator = (ROOT / "crds" / "whisperendpoints.yaml").read_text(), _operator(repository, kubectl)
    return {
        "crd.yaml": HEAD + crd,
        "operator.yaml": HEAD + operator,
        "install.yaml": HEAD + WARNING + crd + "---\n" + operator,
    }


def _operator(repository: str, kubectl: Path) -> str:
    config = f"server:\n  repository: {repository}\n  version: {__version__}\nautopilot: false\n"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yaml").write_text(config)
        overlay = {
            "resources": [os.path.relpath(DEPLOY / "base", Path(folder).resolve())],
            "images": [
                {"name": "whisper-operator", "newName": repository, "newTag": f"{__version__}-operator"}
            ],
            "configMapGenerator": [
                {
                    "name": "whisper-operator",
                    "namespace": "whisper-operator",
                    "behavior": "replace",
                    "files": ["config.yaml"],
                }
            ],
        }
        (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
        done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=True)
    return done.stdout
