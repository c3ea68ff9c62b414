"""Write the golden manifests anew, after a change that is meant to roll every endpoint out again."""

from pathlib import Path

import yaml
from whisper_operator import manifests
from whisper_operator.config import load
from whisper_operator.observed.children import Observed
from whisper_operator.spec.endpoint import parse

HERE = Path(__file__).resolve().parent
SETTINGS = load(HERE / "settings.yaml")

for path in sorted((HERE.parents[2] / "examples").glob("*.yaml")):
    documents = yaml.safe_load_all(path.read_text())
    (resource,) = (each for each in documents if each["kind"] == "WhisperEndpoint")
    bodies = [
        dict(child.body) for child in manifests.of(parse(resource, SETTINGS), Observed.nothing(), SETTINGS)
    ]
    (HERE / "examples" / path.name).write_text(yaml.safe_dump(bodies, sort_keys=False, width=120))
