"""Write the golden manifests anew, after a change that is meant to roll every endpoint out again."""

from pathlib import Path

import yaml
from whisper_operator import manifests
from whisper_operator.config import Settings
from whisper_operator.endpoint import parse
from whisper_operator.observed import Observed

HERE = Path(__file__).resolve().parent
SETTINGS = Settings(server_repository="registry.example.com/whisper-server", server_version="1.2.3")

for example in ("minimal", "complete", "internal", "cpu"):
    resource = yaml.safe_load((HERE.parents[2] / "examples" / f"{example}.yaml").read_text())
    bodies = [dict(child.body) for child in manifests.of(parse(resource, SETTINGS), Observed.nothing())]
    (HERE / f"{example}.yaml").write_text(yaml.safe_dump(bodies, sort_keys=False, width=120))
