"""Each way in which a CRD could break what an earlier one stored is found, and what breaks nothing is not taken for one."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.crd_changes import changes

ROOT = Path(__file__).resolve().parents[2]
CRD = yaml.safe_load((ROOT / "crds" / "whisperendpoints.yaml").read_text())
Body = dict[str, Any]
Edit = Callable[[Body], object]
"""Of the CRD's spec."""


def copied() -> Body:
    """Without what YAML's anchors share: an edit is one edit."""
    return json.loads(json.dumps(CRD))  # type: ignore[no-any-return]


def version(crd: Body) -> Body:
    found: Body = crd["versions"][0]
    return found


def at(crd: Body, path: str) -> Body:
    """The schema of a field of spec, as in scheduling.tolerations[].key; "" is spec itself."""
    schema: Body = version(crd)["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for name in path.replace("[]", ".[]").split(".") if path else ():
        schema = schema["items"] if name == "[]" else schema["properties"][name]
    return schema


def fields(version: Body) -> Body:
    found: Body = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    return found


def change(path: str, **keys: Any) -> Edit:
    return lambda crd: at(crd, path).update({name.replace("_", "-"): value for name, value in keys.items()})


def without(path: str, key: str) -> Edit:
    return lambda crd: at(crd, path).pop(key)


def ruled(path: str, rule: str = "false") -> Edit:
    return lambda crd: (
        at(crd, path).setdefault("x-kubernetes-validations", []).append({"rule": rule, "message": "no"})
    )


def second(crd: Body, **keys: Any) -> Body:
    """Add v1beta1, a copy of v1alpha1 in which objects are stored from now on."""
    added: Body = copy.deepcopy(version(crd)) | {"name": "v1beta1"} | keys
    version(crd)["storage"] = not added["storage"]
    crd["versions"].append(added)
    return added


BREAKS: dict[str, tuple[Edit, str]] = {
    "a field is gone": (
        lambda crd: at(crd, "limits")["properties"].pop("maxQueue"),
        "v1alpha1.spec.limits.maxQueue: the field is gone",
    ),
    "a field of a list's items is gone": (
        lambda crd: at(crd, "scheduling.tolerations[]")["properties"].pop("key"),
        "v1alpha1.spec.scheduling.tolerations[].key: the field is gone",
    ),
    "a map is gone": (
        without("scheduling.podLabels", "additionalProperties"),
        "v1alpha1.spec.scheduling.podLabels: takes no other fields",
    ),
    "another type": (change("replicas", type="string"), "v1alpha1.spec.replicas: type integer became string"),
    "numbers that may be texts no more": (
        lambda crd: at(crd, "resources.requests")["properties"]["cpu"].pop("x-kubernetes-int-or-string"),
        "v1alpha1.spec.resources.requests.cpu: x-kubernetes-int-or-string True became None",
    ),
    "a null that is none any more": (without("host", "nullable"), "v1alpha1.spec.host: nullable is gone"),
    "a field becomes required": (
        change("", required=["host"]),
        "v1alpha1.spec.host: became required",
    ),
    "a new field is required": (
        lambda crd: at(crd, "auth").update(
            properties=at(crd, "auth")["properties"] | {"realm": {"type": "string"}},
            required=["secretName", "realm"],
        ),
        "v1alpha1.spec.auth.realm: became required",
    ),
    "a default on a field of an exclusive choice": (
        change("device", default="cpu"),
        "v1alpha1.spec.device: default None became cpu",
    ),
    "another default": (change("replicas", default=2), "v1alpha1.spec.replicas: default 1 became 2"),
    "a default on a new field": (
        lambda crd: at(crd, "limits")["properties"].update(streams={"type": "integer", "default": 3}),
        "v1alpha1.spec.limits.streams: is new, and every stored object gets 3",
    ),
    "another kind of list": (
        change("cors.allowedOrigins", **{"x-kubernetes-list-type": "atomic"}),
        "v1alpha1.spec.cors.allowedOrigins: x-kubernetes-list-type set became atomic",
    ),
    "other keys of a list": (
        change("scheduling.env", **{"x-kubernetes-list-map-keys": ["name", "value"]}),
        "v1alpha1.spec.scheduling.env: x-kubernetes-list-map-keys",
    ),
    "oneOf, which does not ratchet": (
        change("modelVolume", oneOf=[{"required": ["emptyDir"]}]),
        "v1alpha1.spec.modelVolume: oneOf None became",
    ),
    "a rule on the whole spec": (ruled(""), "v1alpha1.spec: rule: no"),
    "a rule on an object": (ruled("resources"), "v1alpha1.spec.resources: rule: no"),
    "a rule on a map": (ruled("scheduling.podLabels"), "v1alpha1.spec.scheduling.podLabels: rule: no"),
    "a rule on an item of a list that is no map of items": (
        ruled("additionalHosts[]"),
        "v1alpha1.spec.additionalHosts[]: rule: no",
    ),
    "a rule within such an item": (
        ruled("scheduling.tolerations[].key"),
        "v1alpha1.spec.scheduling.tolerations[].key: rule: no",
    ),
    "a transition rule, on a value too": (
        ruled("host", "self == oldSelf"),
        "v1alpha1.spec.host: rule: no",
    ),
    "a shorter list": (
        change("additionalHosts", maxItems=2),
        "v1alpha1.spec.additionalHosts: maxItems 14 became 2",
    ),
    "a version is gone": (
        lambda crd: version(crd).update(name="v1beta1"),
        "v1alpha1: the version is gone, and objects are stored in it",
    ),
    "a version is not served": (
        lambda crd: second(crd) and version(crd).update(served=False),
        "v1alpha1: the version is not served any more",
    ),
    "another version has more, which writes by the old one would drop": (
        lambda crd: fields(second(crd)).update(region={"type": "string"}),
        "v1alpha1.spec.region: is lacking, and is a field of v1beta1",
    ),
    "a webhook to convert by": (
        lambda crd: crd.update(conversion={"strategy": "Webhook"}),
        "conversion: objects can't be read while its webhook is away",
    ),
    "a short name is gone": (lambda crd: crd["names"].pop("shortNames"), "names.shortNames: wep is gone"),
    "another plural": (
        lambda crd: crd["names"].update(plural="endpoints"),
        "names.plural: whisperendpoints became endpoints",
    ),
    "another scope": (lambda crd: crd.update(scope="Cluster"), "scope: Namespaced became Cluster"),
    "no subresource status": (
        lambda crd: version(crd)["subresources"].pop("status"),
        "v1alpha1: subresource status is gone",
    ),
    "another path of scale": (
        lambda crd: version(crd)["subresources"]["scale"].update(specReplicasPath=".spec.count"),
        "v1alpha1: scale.specReplicasPath became .spec.count",
    ),
    "a path of scale is gone": (
        lambda crd: version(crd)["subresources"]["scale"].pop("labelSelectorPath"),
        "v1alpha1: scale.labelSelectorPath became None",
    ),
    "a column is gone": (
        lambda crd: version(crd)["additionalPrinterColumns"].pop(1),
        "v1alpha1: column Ready is gone",
    ),
}

RATCHETS: dict[str, tuple[Edit, str]] = {
    "a rule on a value": (ruled("host"), "v1alpha1.spec.host: rule: no"),
    "a pattern": (change("image", pattern="^a"), "v1alpha1.spec.image: pattern None became ^a"),
    "a shorter text": (
        change("defaults.prompt", maxLength=10),
        "v1alpha1.spec.defaults.prompt: maxLength 4096 became 10",
    ),
    "a bound where none was": (
        change("replicas", minimum=1),
        "v1alpha1.spec.replicas: minimum None became 1",
    ),
    "a higher least": (
        change("limits.maxQueue", minimum=2),
        "v1alpha1.spec.limits.maxQueue: minimum 1 became 2",
    ),
    "an enum where none was": (change("device", enum=["cpu"]), "v1alpha1.spec.device: only cpu are left"),
    "a value in a map": (
        lambda crd: at(crd, "scheduling.podLabels")["additionalProperties"].update(maxLength=9),
        "v1alpha1.spec.scheduling.podLabels.*: maxLength 63 became 9",
    ),
    "a value within an item with a key": (
        ruled("scheduling.env[].value"),
        "v1alpha1.spec.scheduling.env[].value: rule: no",
    ),
}

HARMLESS: dict[str, Edit] = {
    "nothing": lambda crd: None,
    "another text": change("host", description="Another one."),
    "another message": lambda crd: at(crd, "host")["x-kubernetes-validations"][0].update(message="Other."),
    "a rule less": without("", "x-kubernetes-validations"),
    "a bound less": without("host", "maxLength"),
    "a wider bound": change("replicas", maximum=2000),
    "may be null from now on": change("replicas", nullable=True),
    "is not required any more": without("auth", "required"),
    "a new field": lambda crd: at(crd, "")["properties"].update(region={"type": "string"}),
    "a default within a new object": lambda crd: at(crd, "")["properties"].update(
        cache={"type": "object", "properties": {"size": {"type": "integer", "default": 1}}}
    ),
    "a new column": lambda crd: version(crd)["additionalPrinterColumns"].append({"name": "Engine"}),
    "a new short name": lambda crd: crd["names"]["shortNames"].append("weps"),
    "a new field in both versions": lambda crd: (
        at(crd, "")["properties"].update(region={"type": "string"}) or second(crd)
    ),
    "the next version, which is stored": second,
    "the next version, which is not stored yet": lambda crd: second(crd, storage=False),
}


def found(edit: Edit) -> list[tuple[str, bool]]:
    crd = copied()
    edit(crd["spec"])
    return [(str(each), each.ratchets) for each in changes(copied(), crd)]


@pytest.mark.parametrize(("edit", "said"), BREAKS.values(), ids=BREAKS)
def test_what_breaks_stored_objects_is_found(edit: Edit, said: str) -> None:
    ((text, ratchets),) = found(edit)
    assert text.startswith(said)
    assert not ratchets


@pytest.mark.parametrize(("edit", "said"), RATCHETS.values(), ids=RATCHETS)
def test_what_leaves_stored_values_alone_is_found_as_such(edit: Edit, said: str) -> None:
    assert found(edit) == [(said, True)]


@pytest.mark.parametrize("edit", HARMLESS.values(), ids=HARMLESS)
def test_what_breaks_nothing_is_nothing(edit: Edit) -> None:
    assert found(edit) == []


def test_another_version_with_less_breaks_twice() -> None:
    """What is stored would lose the field at the move, and later at any write by the new version."""
    assert found(lambda crd: fields(second(crd)).pop("host")) == [
        ("v1beta1.spec.host: the field is gone: the next write would lose it", False),
        ("v1beta1.spec.host: is lacking, and is a field of v1alpha1", False),
    ]


def test_an_enum_that_loses_a_value_breaks() -> None:
    old, new = copied(), copied()
    at(old["spec"], "device")["enum"] = ["cpu", "tpu"]
    at(new["spec"], "device")["enum"] = ["cpu"]
    assert [(str(each), each.ratchets) for each in changes(old, new)] == [
        ("v1alpha1.spec.device: value tpu is gone", False)
    ]


def test_unknown_fields_that_were_kept_break_when_they_are_pruned() -> None:
    old = copied()
    at(old["spec"], "scheduling")["x-kubernetes-preserve-unknown-fields"] = True
    assert [str(each) for each in changes(old, copied())] == [
        "v1alpha1.spec.scheduling: x-kubernetes-preserve-unknown-fields is gone"
    ]
