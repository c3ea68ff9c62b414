"""Whose a field is, and what is taken back: what is the operator's own, and never what others add."""

import copy
import json
from typing import Any

import pytest
from whisper_operator.apply import ownership
from whisper_operator.apply import plan as drift
from whisper_operator.kube.kinds import DEPLOYMENT, DISRUPTION_BUDGET, INGRESS, SERVICE, Kind
from whisper_operator.manifests import Manifest
from whisper_operator.observed.children import Child, Observed

from tests.unit.making import declared

POD = ("f:spec", "f:template", "f:spec")
SERVER = (*POD, "f:containers", 'k:{"name":"server"}')


def manifest(kind: Kind, **spec: Any) -> Manifest:
    return next(each for each in declared(spec, Observed.nothing()) if each.kind is kind)


def entry(
    kind: Kind, *paths: tuple[str, ...], manager: str = "kubectl-edit", time: str = "1"
) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for path in paths:
        at = fields
        for key in path:
            at = at.setdefault(key, {})
        if path[-1].startswith("k:"):
            at["."] = {}
    operation = "Apply" if manager == "whisper-operator" else "Update"
    values = {"manager": manager, "operation": operation, "apiVersion": kind.api_version, "time": time}
    return {**values, "fieldsType": "FieldsV1", "fieldsV1": fields}


def live(wanted: Manifest, *entries: dict[str, Any]) -> dict[str, Any]:
    raw: dict[str, Any] = copy.deepcopy(dict(wanted.body))
    raw["metadata"] |= {"uid": "c", "resourceVersion": "7", "managedFields": list(entries)}
    return raw


OURS: list[tuple[Kind, dict[str, Any], tuple[str, ...], str]] = [
    (DEPLOYMENT, {}, (*SERVER, "f:env", 'k:{"name":"WHISPER_API_KEYS_DIR"}'), "env[WHISPER_API_KEYS_DIR]"),
    (DEPLOYMENT, {}, (*SERVER, "f:env", 'k:{"name":"WHISPER_MODEL"}', "f:valueFrom"), "valueFrom"),
    (DEPLOYMENT, {}, (*SERVER, "f:resources", "f:limits", "f:cpu"), "limits.cpu"),
    (
        DEPLOYMENT,
        {"device": "cpu"},
        (*SERVER, "f:resources", "f:limits", "f:nvidia.com/gpu"),
        "nvidia.com/gpu",
    ),
    (DEPLOYMENT, {}, (*SERVER, "f:livenessProbe", "f:exec"), "livenessProbe.exec"),
    (DEPLOYMENT, {}, (*SERVER, "f:lifecycle", "f:preStop", "f:sleep"), "preStop.sleep"),
    (DEPLOYMENT, {}, (*SERVER, "f:volumeMounts", 'k:{"mountPath":"/models"}'), "volumeMounts[/models]"),
    (DEPLOYMENT, {}, (*POD, "f:initContainers", 'k:{"name":"download"}'), "initContainers[download]"),
    (DEPLOYMENT, {}, (*POD, "f:volumes", 'k:{"name":"api-keys"}'), "volumes[api-keys]"),
    (DEPLOYMENT, {}, (*POD, "f:volumes", 'k:{"name":"tmp"}', "f:hostPath"), "volumes[tmp].hostPath"),
    (DEPLOYMENT, {"device": "cpu"}, (*POD, "f:nodeSelector"), "nodeSelector"),
    (DEPLOYMENT, {"device": "cpu"}, (*POD, "f:tolerations"), "tolerations"),
    (
        DEPLOYMENT,
        {"rollout": "Recreate"},
        ("f:spec", "f:strategy", "f:rollingUpdate"),
        "strategy.rollingUpdate",
    ),
    (DISRUPTION_BUDGET, {"replicas": 2}, ("f:spec", "f:minAvailable"), "spec.minAvailable"),
    (SERVICE, {}, ("f:spec", "f:loadBalancerSourceRanges"), "spec.loadBalancerSourceRanges"),
    (INGRESS, {"host": "a.example.com"}, ("f:spec", "f:tls"), "spec.tls"),
    (INGRESS, {"host": "a.example.com"}, ("f:spec", "f:ingressClassName"), "spec.ingressClassName"),
]


@pytest.mark.parametrize(("kind", "spec", "path", "words"), OURS, ids=[each[3] for each in OURS])
def test_what_any_spec_could_have_written_and_this_one_does_not_is_taken_back(
    kind: Kind, spec: dict[str, Any], path: tuple[str, ...], words: str
) -> None:
    wanted = manifest(kind, **spec)
    found = ownership.take_over(wanted, live(wanted, entry(kind, path)))
    assert found is not None
    (field, editor), *more = found.fields.items()
    assert (field.endswith(words), editor, more) == (True, "kubectl-edit", [])
    own, *others = found.entries
    assert (own["manager"], own["operation"], others) == ("whisper-operator", "Apply", [])
    assert drift.lost(wanted, Child.of(kind, live(wanted, entry(kind, path)))) >= {field}


OTHERS: list[tuple[Kind, dict[str, Any], tuple[str, ...]]] = [
    (DEPLOYMENT, {}, (*POD, "f:containers", 'k:{"name":"sidecar"}', "f:image")),
    (DEPLOYMENT, {}, (*POD, "f:volumes", 'k:{"name":"sockets"}', "f:emptyDir")),
    (DEPLOYMENT, {}, (*SERVER, "f:env", 'k:{"name":"HTTPS_PROXY"}', "f:value")),
    (DEPLOYMENT, {}, (*SERVER, "f:volumeMounts", 'k:{"mountPath":"/sockets"}', "f:name")),
    (DEPLOYMENT, {}, (*SERVER, "f:resources", "f:limits", "f:example.com/fuse")),
    (DEPLOYMENT, {}, (*SERVER, "f:startupProbe", "f:initialDelaySeconds")),
    (DEPLOYMENT, {}, (*POD, "f:affinity")),
    (
        DEPLOYMENT,
        {},
        ("f:spec", "f:template", "f:metadata", "f:annotations", "f:kubectl.kubernetes.io/restartedAt"),
    ),
    (DEPLOYMENT, {}, ("f:metadata", "f:labels", "f:argocd.argoproj.io/instance")),
    (DEPLOYMENT, {"autoscaling": {"min": 1, "max": 3}}, ("f:spec", "f:replicas")),
    (SERVICE, {}, ("f:metadata", "f:annotations", "f:cloud.google.com/neg-status")),
    (INGRESS, {"host": "a.example.com"}, ("f:metadata", "f:annotations", "f:ingress.kubernetes.io/url-map")),
    (
        INGRESS,
        {"host": "a.example.com"},
        ("f:metadata", "f:annotations", "f:ingress.gcp.kubernetes.io/pre-shared-cert"),
    ),
    (
        INGRESS,
        {"host": "a.example.com", "ingress": {"class": "nginx", "tls": {"secretName": "s"}}},
        ("f:spec", "f:tls"),
    ),
]


@pytest.mark.parametrize(("kind", "spec", "path"), OTHERS, ids=[each[2][-1] for each in OTHERS])
def test_what_others_add_is_theirs(kind: Kind, spec: dict[str, Any], path: tuple[str, ...]) -> None:
    wanted = manifest(kind, **spec)
    theirs = entry(kind, path)
    assert ownership.take_over(wanted, live(wanted, theirs)) is None
    child = Child.of(kind, live(wanted, theirs))
    assert drift.lost(wanted, child) == drift.missing(wanted, child)


def test_only_what_is_taken_leaves_another_s_entry() -> None:
    wanted = manifest(DEPLOYMENT)
    volumes = (*POD, "f:volumes")
    theirs = entry(
        DEPLOYMENT, (*volumes, 'k:{"name":"api-keys"}', "f:secret"), (*volumes, 'k:{"name":"sockets"}')
    )
    status = {**entry(DEPLOYMENT, ("f:status",), manager="kube-controller-manager"), "subresource": "status"}
    own = entry(DEPLOYMENT, ("f:spec", "f:paused"), manager="whisper-operator", time="0")
    found = ownership.take_over(wanted, live(wanted, theirs, status, own))
    assert found is not None
    first, second, third = found.entries
    assert first["fieldsV1"] == {
        "f:spec": {"f:paused": {}, "f:template": {"f:spec": {"f:volumes": {'k:{"name":"api-keys"}': {}}}}}
    }
    assert second == entry(DEPLOYMENT, (*volumes, 'k:{"name":"sockets"}'))
    assert third == status


def test_fields_of_another_version_of_the_kind_are_left_alone() -> None:
    """Their names may mean something else there."""
    wanted = manifest(DISRUPTION_BUDGET, replicas=2)
    other = {**entry(DISRUPTION_BUDGET, ("f:spec", "f:minAvailable")), "apiVersion": "policy/v1beta1"}
    assert ownership.take_over(wanted, live(wanted, other)) is None
    assert Child.of(DISRUPTION_BUDGET, live(wanted, other)).others_fields == "{}"


def test_a_renamed_container_goes_and_a_sidecar_of_somebody_else_s_stays() -> None:
    wanted = manifest(DEPLOYMENT)
    containers = (*POD, "f:containers")
    mesh = entry(DEPLOYMENT, (*containers, 'k:{"name":"proxy"}'), manager="mesh", time="2026-01-01T00:00:00Z")
    changed = (*containers, 'k:{"name":"proxy"}', "f:image")  # and not added
    editor = entry(DEPLOYMENT, (*containers, 'k:{"name":"renamed"}'), changed, time="2026-01-02T00:00:00Z")
    raw = live(wanted, mesh, editor)
    raw["spec"]["template"]["spec"]["containers"] = [{"name": "renamed"}, {"name": "proxy"}]
    found = ownership.take_over(wanted, raw)
    assert found is not None
    assert found.fields == {"spec.template.spec.containers[renamed]": "kubectl-edit"}


def test_a_mount_of_a_volume_that_is_no_longer_declared_goes_wherever_it_is() -> None:
    """It would be refused, and with it every change."""
    wanted = manifest(DEPLOYMENT)
    raw = live(wanted, entry(DEPLOYMENT, (*POD, "f:containers", 'k:{"name":"sidecar"}'), manager="mesh"))
    pod = raw["spec"]["template"]["spec"]
    pod["volumes"] = [*pod["volumes"], {"name": "models", "emptyDir": {}}]
    mounts = [{"name": "models", "mountPath": "/m"}, {"name": "own", "mountPath": "/o"}]
    pod["containers"] = [*pod["containers"], {"name": "sidecar", "volumeMounts": mounts}]
    found = ownership.take_over(wanted, raw)
    assert found is not None
    assert set(found.fields) == {"spec.template.spec.containers[sidecar].volumeMounts[/m]"}


def test_what_nobody_owns_is_taken_when_it_is_asked_for_only() -> None:
    wanted = manifest(DEPLOYMENT)
    raw = live(wanted)
    raw["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "4"
    assert ownership.take_over(wanted, raw) is None
    found = ownership.take_over(wanted, raw, unowned=True)
    assert found is not None
    assert found.fields == {"spec.template.spec.containers[server].resources.limits.cpu": ""}


def test_a_field_that_was_lost_is_told_with_whose_it_is() -> None:
    wanted = manifest(SERVICE)
    own = {**entry(SERVICE, manager="whisper-operator"), "fieldsV1": owned(wanted.body)}
    del own["fieldsV1"]["f:spec"]["f:selector"]
    del own["fieldsV1"]["f:spec"]["f:type"]
    scaler = {**entry(SERVICE, ("f:spec", "f:selector"), manager="autoscaler"), "subresource": "scale"}
    assert drift.editors(wanted, [own, scaler]) == {"spec.selector": "autoscaler (scale)", "spec.type": ""}


LOST = [
    (("f:env",), 'k:{"name":"WHISPER_MODEL"}', "env[WHISPER_MODEL]"),
    (("f:volumeMounts",), 'k:{"mountPath":"/tmp"}', "volumeMounts[tmp]"),
    (("f:ports",), 'k:{"containerPort":8000,"protocol":"TCP"}', "ports[http]"),
]


@pytest.mark.parametrize(("path", "key", "words"), LOST, ids=[each[2] for each in LOST])
def test_an_entry_of_a_list_that_was_replaced_is_told_with_whose_it_is(
    path: tuple[str, ...], key: str, words: str
) -> None:
    """As the API server writes it: by the keys of that list, and without a blank."""
    wanted = manifest(DEPLOYMENT)
    own = entry(DEPLOYMENT, (*SERVER, *path, 'k:{"name":"another"}'), manager="whisper-operator")
    theirs = entry(DEPLOYMENT, (*SERVER, *path, key), manager="argocd")
    found = drift.editors(wanted, [own, theirs])
    assert found[f"spec.template.spec.containers[server].{words}"] == "argocd"
    others = {
        field: who for field, who in found.items() if f".{path[0][2:]}[" in field and words not in field
    }
    assert set(others.values()) <= {""}


def owned(value: Any) -> Any:
    """All of a manifest that has no lists but of ports, as fieldsV1."""
    if isinstance(value, dict):
        return {f"f:{name}": owned(each) for name, each in value.items()}
    if isinstance(value, list):
        return {_key(each): owned(each) for each in value}
    return {}


def _key(item: dict[str, Any]) -> str:
    key = "port" if "port" in item else "name"
    return f"k:{json.dumps({key: item[key]}, separators=(',', ':'))}"
