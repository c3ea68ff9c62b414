"""`whisper-operator render`: the children of endpoints in files, without a cluster."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import yaml

from whisper_operator import manifests
from whisper_operator.config import Settings
from whisper_operator.endpoint import SpecError, parse
from whisper_operator.kinds import ENDPOINT
from whisper_operator.observed import Observed


class InputError(Exception):
    """A file that can't be read as Kubernetes YAML."""


def render(path: str, settings: Settings, output: TextIO) -> int:
    """Print the children of every endpoint in a file ("-" is standard input) as YAML; other kinds are passed over.

    Returns the number of endpoints that can't be rendered; each is explained on standard error. Raises InputError.
    """
    failures = found = 0
    for resource in _documents(path):
        if resource.get("kind") != ENDPOINT.name:
            continue
        found += 1
        metadata = resource.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        try:
            children = manifests.of(parse(resource, settings), Observed.nothing())
        except SpecError as error:
            failures += 1
            print(f"{path}: WhisperEndpoint {name}: {error.reason}: {error.message}", file=sys.stderr)
            continue
        for child in children:
            output.write("---\n")
            yaml.safe_dump(dict(child.body), output, sort_keys=False, width=120)
    if not found:
        raise InputError(f"{path}: there is no {ENDPOINT.name} in it")
    return failures


def _documents(path: str) -> Iterator[dict[str, Any]]:
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text()
        documents = list(yaml.safe_load_all(text))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: {error}") from error
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict):
            raise InputError(f"{path}: a document in it is no mapping but {type(document).__name__}")
        yield document
