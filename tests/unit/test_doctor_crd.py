"""What doctor says of the CRD: whether it is there, served, and of this version."""

import copy
from typing import Any

from whisper_operator.kube.kinds import ENDPOINT

from tests.unit.diagnosing import (
    FORBIDDEN,
    condition,
    crd,
    facts,
    found,
    well,
)
from tests.unit.making import Body


def test_a_crd_that_is_not_there_shows_with_and_without_the_right_to_read_it() -> None:
    for given in (facts(crd=None), facts(crd=FORBIDDEN, missing=frozenset({ENDPOINT}))):
        assert "the operator is not installed, or its CRD was deleted" in found(given)["CRDMissing"].problem
        assert (
            found(given)["CRDMissing"].command == "kubectl apply --server-side -f crds/whisperendpoints.yaml"
        )
    unknown = found(facts(crd=FORBIDDEN))["NotPermitted"]
    assert unknown.problem == "CRD: not checked: needs the right to list things in the whole cluster"


def test_a_crd_that_is_not_served() -> None:
    refused = condition("NamesAccepted", "False", "ShortNamesConflict", '"wep" is already in use')
    given = crd(status={"conditions": [refused, condition("Established", "False")]})
    assert '"wep" is already in use' in found(facts(crd=given))["CRDNotEstablished"].problem
    going = crd()
    going["metadata"]["deletionTimestamp"] = "2026-03-01T11:59:00Z"
    assert "being deleted, and with it every endpoint" in found(facts(crd=going))["CRDNotEstablished"].problem
    assert "is served" not in well(facts(crd=going))


def schema_of(given: Body) -> Any:
    return given["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]


def test_a_crd_of_another_version() -> None:
    older = copy.deepcopy(crd())
    del schema_of(older)["properties"]["cors"]
    assert "it lacks spec.cors." in found(facts(crd=older))["CRDOlder"].problem
    newer = copy.deepcopy(crd())
    schema_of(newer)["properties"]["flavour"] = {
        "type": "object",
        "properties": {"taste": {"type": "string"}},
    }
    assert "knows nothing of spec.flavour." in found(facts(crd=newer))["CRDNewer"].problem
    other = copy.deepcopy(crd())
    schema_of(other)["description"] = "Something else."
    assert "other rules or descriptions" in found(facts(crd=other))["CRDDiffers"].problem
    gone = copy.deepcopy(crd())
    gone["spec"]["versions"][0]["name"] = "v1"
    gone["status"]["storedVersions"] = ["v1"]
    assert "does not serve whisper-operator.io/v1alpha1" in found(facts(crd=gone))["CRDOlder"].problem


def test_versions_that_objects_may_be_stored_in() -> None:
    stored = crd()
    stored["status"]["storedVersions"] = ["v1alpha0", "v1alpha1"]
    finding = found(facts(crd=stored))["CRDStoredVersions"]
    assert (finding.severity, "in version v1alpha0, which the CRD does not serve" in finding.problem) == (
        "error",
        True,
    )
    stored["spec"]["versions"].append({"name": "v1alpha0", "served": True, "storage": False})
    finding = found(facts(crd=stored))["CRDStoredVersions"]
    assert (finding.severity, "any of the versions v1alpha0, v1alpha1" in finding.problem) == (
        "warning",
        True,
    )
