"""Drift: told from a hash and from who owns which field, never from values."""

import json
from dataclasses import replace
from typing import Any

import pytest
from whisper_operator.apply import plan as drift
from whisper_operator.kube.kinds import CLASS_ANNOTATION, DEPLOYMENT, INGRESS, SERVICE
from whisper_operator.manifests import Manifest
from whisper_operator.observed.children import Child, Observed, Owner, class_of

BODY: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "name": "w",
        "namespace": "n",
        "labels": {"a": "1"},
        "ownerReferences": [{"uid": "u", "name": "w"}],
    },
    "spec": {
        "replicas": 0,
        "selector": {"matchLabels": {"a": "1"}},
        "containers": [{"name": "server", "ports": [{"containerPort": 1, "protocol": "TCP"}], "args": ["x"]}],
        "finalizers": ["f"],
    },
}
OWNED: dict[str, Any] = {
    "f:metadata": {
        "f:labels": {"f:a": {}},
        "f:ownerReferences": {'k:{"uid":"u"}': {}},
        "f:annotations": {"f:whisper-operator.io/applied-hash": {}},
    },
    "f:spec": {
        "f:replicas": {},
        "f:selector": {},  # atomic: one entry for all of it
        "f:containers": {
            'k:{"name":"server"}': {
                ".": {},
                "f:name": {},
                "f:ports": {
                    'k:{"containerPort":1,"protocol":"TCP"}': {
                        ".": {},
                        "f:containerPort": {},
                        "f:protocol": {},
                    }
                },
                "f:args": {},
            }
        },
        "f:finalizers": {'v:"f"': {}},
    },
}
MANIFEST = Manifest(DEPLOYMENT, "n", "w", BODY)


def child(owned: dict[str, Any] = OWNED, **changes: Any) -> Child:
    settled = Child(
        kind=DEPLOYMENT,
        namespace="n",
        name="w",
        uid="c",
        version=1,
        generation=1,
        owner=Owner("WhisperEndpoint", "w", "u"),
        deleting=False,
        applied_hash=drift.fingerprint(MANIFEST),
        own_fields=json.dumps(owned),
        spec={},
        status={},
    )
    return replace(settled, **changes)


def observed(*children: Child) -> Observed:
    return Observed({(each.kind, each.name): each for each in children})


def without(path: str) -> dict[str, Any]:
    """OWNED less one entry; `path` is its keys, separated by slashes."""
    copy: dict[str, Any] = json.loads(json.dumps(OWNED))
    at = copy
    *above, last = path.split("/")
    for key in above:
        at = at[key]
    del at[last]
    return copy


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        ("f:spec/f:replicas", "spec.replicas"),
        ("f:spec/f:selector", "spec.selector"),
        ("f:metadata/f:labels/f:a", "metadata.labels"),
        ("f:metadata/f:labels", "metadata.labels"),
        ('f:metadata/f:ownerReferences/k:{"uid":"u"}', "metadata.ownerReferences"),
        ('f:spec/f:containers/k:{"name":"server"}', "spec.containers"),
        ('f:spec/f:containers/k:{"name":"server"}/f:args', "spec.containers[server].args"),
        (
            'f:spec/f:containers/k:{"name":"server"}/f:ports/k:{"containerPort":1,"protocol":"TCP"}/f:protocol',
            "spec.containers[server].ports[1].protocol",
        ),
        ("f:spec/f:finalizers", "spec.finalizers"),
    ],
)
def test_a_field_that_somebody_took_is_drift(path: str, missing: str) -> None:
    live = child(without(path))
    # A container left empty has no entry at all in managedFields, so the test's own empty ones don't count.
    pruned = json.loads(live.own_fields)
    if path == "f:metadata/f:labels/f:a":
        del pruned["f:metadata"]["f:labels"]
    elif path.startswith("f:metadata/f:ownerReferences"):
        del pruned["f:metadata"]["f:ownerReferences"]
    elif path == 'f:spec/f:containers/k:{"name":"server"}':
        del pruned["f:spec"]["f:containers"]
    live = replace(live, own_fields=json.dumps(pruned))
    assert drift.missing(MANIFEST, live) == {missing}
    assert drift.plan([MANIFEST], observed(live)).update == ((MANIFEST, live),)


def test_fields_of_others_are_no_drift() -> None:
    more = json.loads(json.dumps(OWNED))
    more["f:spec"]["f:extra"] = {}
    assert not drift.differs(MANIFEST, child(more))


def test_another_spec_is_drift_though_every_field_is_ours() -> None:
    other = Manifest(DEPLOYMENT, "n", "w", {**BODY, "spec": {**BODY["spec"], "replicas": 3}})
    assert drift.differs(other, child())


def test_an_edited_or_lost_hash_is_drift() -> None:
    assert drift.differs(MANIFEST, child(applied_hash="edited"))
    assert drift.differs(MANIFEST, child(applied_hash=None))


def test_owning_nothing_is_drift() -> None:
    assert drift.differs(MANIFEST, child({}))


def test_a_hash_that_admission_takes_out_is_asked_for_once_only() -> None:
    answered = drift.after_apply(MANIFEST, child(applied_hash=None))
    assert not drift.differs(MANIFEST, answered)
    other = Manifest(DEPLOYMENT, "n", "w", {**BODY, "spec": {**BODY["spec"], "replicas": 3}})
    assert drift.differs(other, answered)
    assert drift.differs(MANIFEST, replace(answered, own_fields=json.dumps(without("f:spec/f:replicas"))))


def test_what_admission_removes_is_asked_for_once_only() -> None:
    stripped = without("f:spec/f:replicas")
    answered = drift.after_apply(MANIFEST, child(stripped))
    assert not drift.differs(MANIFEST, answered)
    edited = without("f:spec/f:selector")
    assert drift.differs(MANIFEST, replace(answered, own_fields=json.dumps(edited)))


def test_a_missing_child_is_created_an_unwanted_one_deleted_a_dying_one_waited_for() -> None:
    extra = child(kind=SERVICE, name="old")
    dying = child(deleting=True)
    dying_extra = child(kind=SERVICE, name="gone", deleting=True)
    assert drift.plan([MANIFEST], observed()).create == (MANIFEST,)
    assert drift.plan([MANIFEST], observed(child(), extra, dying_extra)).delete == (extra,)
    assert drift.plan([MANIFEST], observed(dying)) == drift.Plan(wait=(dying,))


def test_what_is_to_be_made_can_hit_no_object_that_is_there() -> None:
    assert drift.applied(MANIFEST)["metadata"]["resourceVersion"] == "1"


@pytest.mark.parametrize("replicas", [3, None])
def test_suspending_is_obeyed_whatever_else_is_wrong(replicas: int | None) -> None:
    live = child(spec={} if replicas is None else {"replicas": replicas})
    suspended = {"metadata": {}, "spec": {"suspend": True, "accelerator": 7}}
    assert drift.frozen(suspended, observed(live)) == drift.Plan(scale=((live, 0),))


@pytest.mark.parametrize("spec", [{}, {"suspend": False}, {"suspend": "true"}, None, []])
def test_what_is_frozen_and_not_suspended_stays_as_it_is(spec: Any) -> None:
    assert drift.frozen({"metadata": {}, "spec": spec}, observed(child(spec={"replicas": 1}))) == drift.Plan()


def test_what_is_at_nothing_or_going_needs_no_stop() -> None:
    suspended = {"metadata": {}, "spec": {"suspend": True}}
    assert drift.frozen(suspended, observed(child(spec={"replicas": 0}))) == drift.Plan()
    assert drift.frozen(suspended, observed(child(spec={"replicas": 1}, deleting=True))) == drift.Plan()
    assert drift.frozen(suspended, observed()) == drift.Plan()


def test_the_hash_does_not_depend_on_the_order_of_keys() -> None:
    turned = Manifest(DEPLOYMENT, "n", "w", dict(reversed(list(BODY.items()))))
    assert drift.fingerprint(turned) == drift.fingerprint(MANIFEST)


def test_what_is_applied_carries_the_hash_and_the_uid_and_leaves_the_manifest_alone() -> None:
    body = drift.applied(MANIFEST, uid="c")
    assert body["metadata"]["uid"] == "c"
    assert body["metadata"]["annotations"] == {
        "whisper-operator.io/applied-hash": drift.fingerprint(MANIFEST)
    }
    assert "uid" not in drift.applied(MANIFEST)["metadata"]
    assert "resourceVersion" not in body["metadata"]
    assert "annotations" not in BODY["metadata"]


def ingress(**body: Any) -> Manifest:
    metadata = {"name": "w", "namespace": "n", **body.pop("metadata", {})}
    return Manifest(INGRESS, "n", "w", {"kind": "Ingress", "metadata": metadata, "spec": body})


GCE = ingress(metadata={"annotations": {"kubernetes.io/ingress.class": "gce"}})
MORE = ingress(metadata=GCE.body["metadata"], rules=[])
TRAEFIK = ingress(ingressClassName="traefik")


def live_ingress(applied: Manifest) -> Child:
    """As it is when that was applied, and nobody has edited it."""
    annotations = applied.body["metadata"].get("annotations", {})
    fields = {
        "f:metadata": {"f:annotations": {f"f:{name}": {} for name in annotations}},
        "f:spec": {f"f:{name}": {} for name in applied.body["spec"]},
    }
    settled = child(fields, kind=INGRESS, ingress_class=class_of(applied.body))
    return replace(settled, applied_hash=drift.fingerprint(applied))


@pytest.mark.parametrize(
    ("applied", "wanted", "replaced"),
    [
        (GCE, TRAEFIK, True),
        (TRAEFIK, GCE, True),
        (TRAEFIK, ingress(ingressClassName="nginx"), True),
        (GCE, MORE, False),
        (TRAEFIK, TRAEFIK, False),
    ],
)
def test_an_ingress_for_another_controller_is_another_ingress(
    applied: Manifest, wanted: Manifest, replaced: bool
) -> None:
    live = live_ingress(applied)
    found = drift.plan([wanted], observed(live))
    assert (found.delete, found.wait) == (((live,), (live,)) if replaced else ((), ()))
    assert not (replaced and (found.update or found.create))


@pytest.mark.parametrize("wanted", [GCE, MORE])
@pytest.mark.parametrize("hash_is_gone", [False, True])
def test_a_class_that_somebody_edited_is_put_back_whatever_else_has_changed(
    wanted: Manifest, hash_is_gone: bool
) -> None:
    """The address and the load balancer would go with the Ingress. Its hash goes when fields are handed over, too."""
    settled = live_ingress(GCE)
    theirs: dict[str, Any] = {"f:metadata": {"f:annotations": {f"f:{CLASS_ANNOTATION}": {}}}}
    edited = replace(settled, ingress_class="nginx", own_fields="{}", others_fields=json.dumps(theirs))
    # Where the operator declares the field, the annotation that somebody added beside it comes first.
    annotated = replace(live_ingress(TRAEFIK), ingress_class="nginx", others_fields=json.dumps(theirs))
    taken_over = replace(settled, ingress_class="nginx", applied_hash=None)
    for live, manifest in ((edited, wanted), (annotated, ingress(ingressClassName="traefik", rules=[]))):
        found = replace(live, applied_hash=None) if hash_is_gone else live
        assert drift.plan([manifest], observed(found)) == drift.Plan(update=((manifest, found),))
    assert drift.plan([wanted], observed(taken_over)) == drift.Plan(update=((wanted, taken_over),))


def test_a_class_is_read_from_the_annotation_first() -> None:
    raw = {
        "spec": {"ingressClassName": "b"},
        "metadata": {"annotations": {"kubernetes.io/ingress.class": "a"}},
    }
    assert class_of(raw) == "a"
    assert class_of(TRAEFIK.body) == "traefik"
    assert class_of({"metadata": {}}) == ""
