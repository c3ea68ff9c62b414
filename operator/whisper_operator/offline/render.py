"""`whisper-operator render`: the children of endpoints in files, without a cluster.

What the API server would refuse of an endpoint, by the CRD's schema and rules, is in crd_schema.
"""

import re
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import yaml

from whisper_operator import claims, manifests
from whisper_operator.claims import Claims
from whisper_operator.config import Settings
from whisper_operator.kube.kinds import CHILDREN, ENDPOINT, INGRESS, MANAGED_CERTIFICATE, Kind
from whisper_operator.manifests import Manifest
from whisper_operator.manifests.frontendconfig import ATTACHED, FROM_SECRET
from whisper_operator.observed.children import Child, Observed
from whisper_operator.offline import crd_schema
from whisper_operator.policy import allowed
from whisper_operator.policy.amounts import asked
from whisper_operator.policy.ledger import Ledger
from whisper_operator.policy.rules import Policy
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint

SUFFIXES = (".yaml", ".yml", ".json")
"""Of the files that are read in a folder, as kubectl does."""

NAMESPACE = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

OPTIONAL = {kind.name: kind for kind in CHILDREN if kind.optional}
"""The kinds that are made only where the cluster has them, by name."""


class InputError(Exception):
    """A file that can't be read as Kubernetes YAML."""


class _Dumper(yaml.SafeDumper):
    """Quotes every word that looks like a number: kubectl reads 1e3 and 0o17 as some, which PyYAML does not."""


_Dumper.add_implicit_resolver("number", re.compile(r"[-+.0-9][-+.\w]*$"), list("-+.0123456789"))


@dataclass(frozen=True)
class Options:
    """What is not in the files."""

    namespace: str = "default"
    """Of endpoints that name none."""
    settled: bool = False
    """Whether to print what is there once every certificate is active, not what is made first."""
    optional: frozenset[Kind] = frozenset()
    """Of OPTIONAL, what the cluster is taken to have."""


def render(
    paths: Collection[str], settings: Settings, policy: Policy, options: Options, output: TextIO
) -> int:
    """Print the children of every endpoint in files, folders and "-", standard input, as YAML; other kinds are passed over.

    Of what only one can have, and under a policy's ceilings, endpoints stand in their order for their age, and what is in no file
    does not count.

    Returns the number of endpoints that can't be rendered; each is explained on standard error. Raises InputError.
    """
    failures, ledger, book = 0, Ledger(), Claims()
    for path in paths:
        found = False
        for where, resource in _resources(path):
            if resource.get("kind") != ENDPOINT.name:
                continue
            found = True
            try:
                given = _checked(resource, options)
                rules = policy.of(given["metadata"]["namespace"])
                endpoint = allowed.parse(given, settings, rules)
                _admit(endpoint, given, policy, ledger, book)
                children = _children(endpoint, settings, options)
            except SpecError as error:
                failures += 1
                name = (_mapping(resource.get("metadata"))).get("name")
                print(f"{where}: {ENDPOINT.name} {name}: {error.reason}: {error.message}", file=sys.stderr)
                continue
            for child in children:
                output.write("---\n")
                yaml.dump(dict(child.body), output, Dumper=_Dumper, sort_keys=False, width=120)
        if not found:
            raise InputError(f"{path}: there is no {ENDPOINT.name} in it")
    return failures


def _checked(resource: dict[str, Any], options: Options) -> dict[str, Any]:
    """As the API server would take it in. Raises SpecError if it would not."""
    version = resource.get("apiVersion")
    if version != ENDPOINT.api_version:
        raise SpecError("InvalidSpec", f"apiVersion must be {ENDPOINT.api_version}, not {version!r}")
    metadata = {"namespace": options.namespace, **_mapping(resource.get("metadata"))}
    namespace = metadata["namespace"]
    if not isinstance(namespace, str) or not NAMESPACE.fullmatch(namespace):
        raise SpecError("InvalidSpec", f"metadata.namespace {namespace!r} is not the name of a namespace")
    metadata.pop("uid", None)  # of another cluster, perhaps: the owner is the controller's affair
    given = {**resource, "metadata": metadata}
    if wrong := crd_schema.complaints(given):
        raise SpecError("InvalidSpec", "; ".join(wrong))
    return given


def _admit(
    endpoint: WhisperEndpoint, resource: dict[str, Any], policy: Policy, ledger: Ledger, book: Claims
) -> None:
    """Raise SpecError if one before it has its host or its address, or those before it have left no room for it."""
    key, order = (endpoint.namespace, endpoint.name), f"{len(book):09}"
    given = {**resource, "metadata": {**resource["metadata"], "uid": order, "creationTimestamp": order}}
    try:
        book.note(key, given)
        claims.check(book.held_against(key), endpoint.namespace)
        ledger.ask(given, asked(endpoint))
        ledger.grant(key, policy)
    except SpecError:
        book.note(key, None)
        ledger.forget(key)
        raise


def _children(endpoint: WhisperEndpoint, settings: Settings, options: Options) -> tuple[Manifest, ...]:
    seen = _all_certified(endpoint, settings) if options.settled else {}
    return manifests.of(endpoint, Observed(seen, options.optional), settings)


def _all_certified(endpoint: WhisperEndpoint, settings: Settings) -> dict[tuple[Kind, str], Child]:
    """As it is seen once every host has its certificate."""
    seen = {}
    shared = (
        endpoint.public.certificate if endpoint.public and endpoint.public.tls == "preSharedCert" else None
    )
    for manifest in manifests.of(endpoint, Observed.nothing(), settings):
        if manifest.kind in (MANAGED_CERTIFICATE, INGRESS):
            child = Child(
                kind=manifest.kind,
                namespace=manifest.namespace,
                name=manifest.name,
                uid="",
                version=0,
                generation=1,
                owner=None,
                deleting=False,
                applied_hash=None,
                own_fields="{}",
                spec={},
                status={"certificateStatus": "Active"},
                annotations={ATTACHED: shared or FROM_SECRET},
            )
            seen[manifest.kind, manifest.name] = child
    return seen


def _resources(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each resource, and in which file and document it is."""
    for file, text in _files(path):
        try:
            documents = list(yaml.safe_load_all(text))
        except (yaml.YAMLError, ValueError) as error:
            raise InputError(f"{file}: {error}") from error
        for number, document in enumerate(documents, start=1):
            where = f"{file}: document {number}"
            if document is None:
                continue
            if not isinstance(document, dict):
                raise InputError(f"{where} is no mapping but {type(document).__name__}")
            if document.get("kind") != "List":
                yield where, document
                continue
            items = document.get("items") or []
            if not isinstance(items, list):
                raise InputError(f"{where}: items is no list but {type(items).__name__}")
            for index, item in enumerate(items):
                if not isinstance(item, dict):
                    raise InputError(f"{where}: items[{index}] is no mapping but {type(item).__name__}")
                yield f"{where}: items[{index}]", item


def _files(path: str) -> Iterator[tuple[str, str]]:
    """Name and content of each file."""
    try:
        if path == "-":
            yield "standard input", sys.stdin.read()
        elif Path(path).is_dir():
            for file in sorted(Path(path).iterdir()):
                if file.suffix in SUFFIXES and file.is_file():
                    yield str(file), file.read_text()
        else:
            yield path, Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from error


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
