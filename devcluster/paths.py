"""Where the development cluster keeps its binaries and the state of running clusters."""

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent


def cache() -> Path:
    """The cache folder: $WHISPER_DEVCLUSTER_CACHE, or .cache/devcluster in the checkout."""
    chosen = os.environ.get("WHISPER_DEVCLUSTER_CACHE")
    return Path(chosen).expanduser().resolve() if chosen else HERE.parent / ".cache" / "devcluster"


def clusters() -> Path:
    """The folder that holds one folder for each running cluster."""
    return cache() / "clusters"
