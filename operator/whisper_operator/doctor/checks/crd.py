"""The CRD: whether it is there, served, and of the operator's version."""

from collections.abc import Iterator, Mapping
from typing import Any

from whisper_operator.doctor.facts import Facts
from whisper_operator.doctor.finding import ERROR, WARNING, Finding, Gap, Result, Subject, Well
from whisper_operator.kube.kinds import CRD, ENDPOINT
from whisper_operator.kube.objects import Raw, condition
from whisper_operator.offline import crd_schema

SUBJECT = Subject(CRD.name, ENDPOINT.qualified)
APPLY = "kubectl apply --server-side -f crds/whisperendpoints.yaml"
SHOWN = 5
"""Fields that are named."""


def check(facts: Facts) -> Iterator[Result]:
    if isinstance(facts.crd, Gap):
        # Whether the kind is served shows without the right to read its definition.
        yield _missing() if ENDPOINT in facts.missing else facts.crd.finding("CRD", SUBJECT)
    elif facts.crd is None:
        yield _missing()
    else:
        yield from _wrong(facts.crd)


def _wrong(crd: Raw) -> Iterator[Result]:
    status = crd.get("status") or {}
    established = condition(status, "Established")
    if established.get("status") != "True":
        refused: Raw = next(
            (each for each in status.get("conditions") or () if each.get("status") == "False"), {}
        )
        words = str(refused.get("message") or established.get("message") or "it says nothing of why")
        yield Finding(
            ERROR,
            "CRDNotEstablished",
            SUBJECT,
            f"The API server does not serve {ENDPOINT.qualified}, though the CRD is there: {words}.",
            "See what its conditions say; another CRD may have the names that it asks for.",
            f"kubectl describe crd {ENDPOINT.qualified}",
        )
        return
    if crd["metadata"].get("deletionTimestamp"):
        yield Finding(
            ERROR,
            "CRDNotEstablished",
            SUBJECT,
            "The CRD is being deleted, and with it every endpoint. No new one is taken.",
            "Once it is gone, apply it and the endpoints anew.",
            APPLY,
        )
        return
    yield from _versions(crd)
    yield from _compared(crd)


def _versions(crd: Raw) -> Iterator[Result]:
    served = {each["name"] for each in crd["spec"]["versions"] if each.get("served")}
    stored = list((crd.get("status") or {}).get("storedVersions") or ())
    lost = [each for each in stored if each not in served]
    if lost:
        yield Finding(
            ERROR,
            "CRDStoredVersions",
            SUBJECT,
            f"Objects may be stored in version {', '.join(lost)}, which the CRD does not serve any more (it serves "
            f"{', '.join(sorted(served))}): they can't be read.",
            "Apply a CRD that serves it, have every object written anew, then take it out of status.storedVersions.",
            "kubectl get whisperendpoints -A -o yaml | kubectl replace -f -",
        )
    elif len(stored) > 1:
        yield Finding(
            WARNING,
            "CRDStoredVersions",
            SUBJECT,
            f"Objects may be stored in any of the versions {', '.join(stored)}. That does no harm until one of them is no longer "
            "served.",
            "Have every object written anew, then take the old ones out of status.storedVersions.",
            "kubectl get whisperendpoints -A -o yaml | kubectl replace -f -",
        )


def _compared(crd: Raw) -> Iterator[Result]:
    """With the CRD that this version of the operator brings."""
    live = next((each for each in crd["spec"]["versions"] if each["name"] == ENDPOINT.version), None)
    if live is None or not live.get("served"):
        yield Finding(
            ERROR,
            "CRDOlder",
            SUBJECT,
            f"The CRD does not serve {ENDPOINT.api_version}, which this version of the operator reads and writes.",
            "Apply the CRD of the operator's version.",
            APPLY,
        )
        return
    have = (live.get("schema") or {}).get("openAPIV3Schema") or {}
    known = crd_schema.schema()
    lacks, more = sorted(_paths(known) - _paths(have)), sorted(_paths(have) - _paths(known))
    if lacks:
        yield Finding(
            ERROR,
            "CRDOlder",
            SUBJECT,
            f"The CRD is older than this version of the operator: it lacks {_some(lacks)}. Whoever sets such a field is "
            "refused, or sees it dropped without a word.",
            "Apply the CRD of the operator's version.",
            APPLY,
        )
    elif more:
        yield Finding(
            WARNING,
            "CRDNewer",
            SUBJECT,
            f"The CRD is newer than this version of the operator, which knows nothing of {_some(more)}.",
            "Use whisper-operator of the version that the CRD is from; if the operator itself is older than its CRD, upgrade it.",
        )
    elif have != known:
        yield Finding(
            WARNING,
            "CRDDiffers",
            SUBJECT,
            "The CRD has the fields that this version of the operator knows, and other rules or descriptions.",
            "Apply the CRD of the operator's version.",
            APPLY,
        )
    else:
        yield Well(f"{SUBJECT} is served, as this version of the operator has it")


def _missing() -> Finding:
    return Finding(
        ERROR,
        "CRDMissing",
        SUBJECT,
        f"The cluster does not have the kind {ENDPOINT.name}: the operator is not installed, or its CRD was deleted, and "
        "with it every endpoint.",
        "Apply it.",
        APPLY,
    )


def _paths(schema: Mapping[str, Any], above: str = "") -> set[str]:
    """Every field, such as spec.accelerator.type."""
    found = {above} if above else set()
    for name, below in (schema.get("properties") or {}).items():
        found |= _paths(below, f"{above}.{name}".removeprefix("."))
    for part, mark in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(schema.get(part), Mapping):
            found |= _paths(schema[part], above + mark)
    return found


def _some(names: list[str]) -> str:
    # What is below a field that is lacking itself says nothing more.
    tops = [each for each in names if not any(each.startswith((f"{one}.", f"{one}[")) for one in names)]
    more = f" and {len(tops) - SHOWN} more" if len(tops) > SHOWN else ""
    return ", ".join(tops[:SHOWN]) + more
