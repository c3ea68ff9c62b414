"""The preset multi-tenant, field by field, as somebody would try it who may create endpoints and nothing else.

docs/security.md is the same list in words; test_security_page.py holds the two together.
"""

import json
from pathlib import Path

import pytest
import yaml
from whisper_operator import manifests
from whisper_operator.manifests import environment
from whisper_operator.observed.children import Observed
from whisper_operator.observed.pods import Pod
from whisper_operator.offline import crd_schema
from whisper_operator.policy import allowed
from whisper_operator.policy.amounts import asked
from whisper_operator.policy.ledger import Ledger
from whisper_operator.policy.reading import load
from whisper_operator.policy.rules import NO_ROOM, VIOLATION, Policy
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint

from tests.unit.making import SETTINGS, Body
from tests.unit.test_every_field import SPEC, leaves

ROOT = Path(__file__).resolve().parents[2]
PRESET = load("preset: multi-tenant", SETTINGS)
WITH_HOSTS = load('{preset: multi-tenant, everywhere: {hosts: ["*.{namespace}.example.com"]}}', SETTINGS)
"""As an installation has it that lets its tenants have hosts."""

PUBLIC: Body = {"host": "w.asr.example.com", "auth": {"secretName": "whisper-keys"}}

REFUSED: dict[str, tuple[Body, str]] = {
    "model": (
        {"model": "/proc/self/environ", "modelVolume": {"persistentVolumeClaim": {"claimName": "whisper-m"}}},
        "spec.model '/proc/self/environ' (allowed models: tiny*, base*, small*, medium*, large*, turbo, demo, /models/*)",
    ),
    "modelVolume.persistentVolumeClaim.claimName": (
        {"modelVolume": {"persistentVolumeClaim": {"claimName": "database"}}},
        "spec.modelVolume.persistentVolumeClaim.claimName 'database' (allowed volumeClaims: whisper-*)",
    ),
    "modelVolume.emptyDir.sizeLimit": (
        {"modelVolume": {"emptyDir": {"sizeLimit": "9Ti"}}},
        "ephemeral-storage 9218Gi (namespace asr may ask for 200Gi in all)",
    ),
    "accelerator.type": (
        {"accelerator": {"type": "nvidia-h100-80gb"}},
        "spec.accelerator.type 'nvidia-h100-80gb' (allowed accelerators: nvidia-tesla-t4, nvidia-l4)",
    ),
    "replicas": ({"replicas": 5}, "replicas 5 (an endpoint may ask for 4)"),
    "autoscaling.max": ({"autoscaling": {"max": 1000}}, "replicas 1000 (an endpoint may ask for 4)"),
    "resources.requests.cpu": ({"resources": {"requests": {"cpu": 33}}}, "cpu 33 (namespace asr may ask for 32 in all)"),
    "resources.requests.memory": ({"resources": {"requests": {"memory": "193Gi"}}}, "memory 193Gi"),
    "resources.requests.ephemeral-storage": (
        {"resources": {"requests": {"ephemeral-storage": "201Gi"}}},
        "ephemeral-storage 201Gi",
    ),
    "resources.limits.cpu": ({"resources": {"limits": {"cpu": 64}}}, "cpu 64"),
    "resources.limits.memory": ({"resources": {"limits": {"memory": "1Ti"}}}, "memory 1024Gi"),
    "resources.limits.ephemeral-storage": (
        {"resources": {"limits": {"ephemeral-storage": "1Ti"}}},
        "ephemeral-storage 1024Gi",
    ),
    "resources.limits.memory over requests": (
        {"device": "cpu", "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"memory": "24Gi"}}},
        "spec.resources.limits.memory 24Gi, which is more than is requested (1Mi;",
    ),
    "image": ({"image": "docker.io/evil/miner:1"}, "spec.image 'docker.io/evil/miner:1' (no registries are allowed)"),
    "imagePullSecrets.[].name": (
        {"imagePullSecrets": [{"name": "whisper-pull"}, {"name": "admin"}]},
        "spec.imagePullSecrets[].name 'admin' (allowed secrets: whisper-*)",
    ),
    "limits.maxUploadBytes": (
        {"limits": {"maxUploadBytes": 10737418240, "maxQueue": 1000}},
        "ephemeral-storage 10011Gi (namespace asr may ask for 200Gi in all)",
    ),
    "limits.maxQueue": ({"limits": {"maxUploadBytes": 1073741824, "maxQueue": 1000}}, "ephemeral-storage 1002Gi"),
    "auth.secretName": (
        {"auth": {"secretName": "database-password"}},
        "spec.auth.secretName 'database-password' (allowed secrets: whisper-*)",
    ),
    "host": (
        {**PUBLIC, "host": "shop.example.com"},
        "spec.host 'shop.example.com' (allowed hosts: *.asr.example.com)",
    ),
    "additionalHosts": (
        {**PUBLIC, "additionalHosts": ["b.asr.example.com", "w.other.example.com"]},
        "spec.additionalHosts[] 'w.other.example.com' (allowed hosts: *.asr.example.com)",
    ),
    "staticIPName": ({**PUBLIC, "staticIPName": "shop"}, "spec.staticIPName 'shop' (no staticIPNames are allowed)"),
    "ingress.class": (
        {**PUBLIC, "ingress": {"class": "nginx"}},
        "spec.ingress.class 'nginx' (allowed ingressClasses: gce, gce-internal)",
    ),
    "ingress.annotations": (
        {**PUBLIC, "ingress": {"annotations": {"nginx.ingress.kubernetes.io/server-snippet": "..."}}},
        "spec.ingress.annotations 'nginx.ingress.kubernetes.io/server-snippet' (no ingressAnnotations are allowed)",
    ),
    "ingress.tls.secretName": (
        {**PUBLIC, "ingress": {"tls": {"secretName": "shop-tls"}}},
        "spec.ingress.tls.secretName 'shop-tls' (allowed secrets: whisper-*)",
    ),
    "ingress.tls.preSharedCert": (
        {**PUBLIC, "ingress": {"tls": {"preSharedCert": "shop"}}},
        "spec.ingress.tls.preSharedCert 'shop' (no certificates are allowed)",
    ),
    "ingress.sslPolicy": ({**PUBLIC, "ingress": {"sslPolicy": "old"}}, "spec.ingress.sslPolicy 'old' (no sslPolicies"),
    "ingress.securityPolicy": (
        {**PUBLIC, "ingress": {"securityPolicy": "open"}},
        "spec.ingress.securityPolicy 'open' (no securityPolicies",
    ),
    "ingress.reserveStaticIP": (
        {**PUBLIC, "staticIPName": "mine", "ingress": {"reserveStaticIP": True}},
        "spec.staticIPName 'mine' (no staticIPNames are allowed)",
    ),
    "scheduling.nodeSelector": (
        {"scheduling": {"nodeSelector": {"pool": "payments"}}},
        "spec.scheduling.nodeSelector 'pool' (no nodeSelectors are allowed)",
    ),
    "scheduling.tolerations.[].key": (
        {"scheduling": {"tolerations": [{"key": "dedicated", "operator": "Exists"}]}},
        "spec.scheduling.tolerations[].key 'dedicated' (no tolerations are allowed)",
    ),
    "scheduling.tolerations.[].operator": (
        {"scheduling": {"tolerations": [{"operator": "Exists"}]}},
        "spec.scheduling.tolerations[].key '' (no tolerations are allowed)",
    ),
    "scheduling.priorityClassName": (
        {"scheduling": {"priorityClassName": "system-node-critical"}},
        "spec.scheduling.priorityClassName 'system-node-critical' (no priorityClasses are allowed)",
    ),
    "scheduling.serviceAccountName": (
        {"scheduling": {"serviceAccountName": "admin"}},
        "spec.scheduling.serviceAccountName 'admin' (no serviceAccounts are allowed)",
    ),
    "scheduling.env.[].name": (
        {"scheduling": {"env": [{"name": "LD_PRELOAD", "value": "/models/x.so"}]}},
        "spec.scheduling.env[].name 'LD_PRELOAD' (no env are allowed)",
    ),
    "scheduling.podLabels": (
        {"scheduling": {"podLabels": {"app": "database"}}},
        "spec.scheduling.podLabels 'app' (no podLabels are allowed)",
    ),
    "scheduling.podAnnotations": (
        {"scheduling": {"podAnnotations": {"gke-gcsfuse/volumes": "true"}}},
        "spec.scheduling.podAnnotations 'gke-gcsfuse/volumes' (no podAnnotations are allowed)",
    ),
    "networkPolicy.enabled": (
        {"networkPolicy": {"enabled": False}},
        "spec.networkPolicy.enabled (not for endpoints to decide)",
    ),
    "networkPolicy.egress.[].cidr": (
        {"networkPolicy": {"egress": [{"cidr": "169.254.169.254/32"}]}},
        "spec.networkPolicy.egress[0] (not within the ways out that are allowed)",
    ),
    "networkPolicy.egress.[].namespace": (
        {"networkPolicy": {"egress": [{"namespace": "payments"}]}},
        "spec.networkPolicy.egress[0] (not within",
    ),
    "networkPolicy.egress.[].ports.[].port": (
        {"networkPolicy": {"egress": [{"ports": [{"port": 25}]}]}},
        "spec.networkPolicy.egress[0] (not within",
    ),
}  # fmt: skip
"""By field: a spec that goes too far there, and what is said."""

HARMLESS: dict[str, Body] = {
    "engine": {"engine": "faster-whisper"},
    "computeType": {"computeType": "float32"},
    "accelerator.spot": {"accelerator": {"spot": True}},
    "device": {"device": "cpu"},
    "autoscaling.min": {"autoscaling": {"min": 4, "max": 4}},
    "autoscaling.targetInFlight": {"autoscaling": {"targetInFlight": 1, "max": 4}},
    "defaults.language": {"defaults": {"language": "de"}},
    "defaults.task": {"defaults": {"task": "translate"}},
    "defaults.prompt": {"defaults": {"prompt": "$(WHISPER_API_KEYS_DIR)"}},
    "defaults.vad": {"defaults": {"vad": True}},
    "limits.maxAudioSeconds": {"limits": {"maxAudioSeconds": 86400}},
    "limits.requestTimeoutSeconds": {"limits": {"requestTimeoutSeconds": 3600}},
    "cors.allowedOrigins": {"cors": {"allowedOrigins": ["*"]}},
    "ingress.tls.mode": {**PUBLIC, "ingress": {"tls": {"mode": "none"}}},
    "ingress.httpsRedirect": {**PUBLIC, "ingress": {"httpsRedirect": True}},
    "scheduling.topologySpread.[].topologyKey": {
        "scheduling": {"topologySpread": [{"topologyKey": "kubernetes.io/hostname"}]}
    },
    "rollout": {"rollout": "Recreate"},
    "suspend": {"suspend": True},
}
"""Fields that take away from nobody, whatever stands in them."""

BELOW = {
    "scheduling.topologySpread.[]": "scheduling.topologySpread.[].topologyKey",
    "scheduling.tolerations.[]": "scheduling.tolerations.[].key",
    "scheduling.env.[]": "scheduling.env.[].name",
    "networkPolicy.egress.[].ports.[]": "networkPolicy.egress.[].ports.[].port",
}
"""Mappings that are allowed or refused as a whole, and by which field of them."""


def understood(spec: Body, policy: Policy = WITH_HOSTS, namespace: str = "asr") -> WhisperEndpoint:
    resource: Body = {"metadata": {"name": "whisper", "namespace": namespace, "uid": "u"}, "spec": spec}
    assert crd_schema.complaints(resource) == [], "the API server would not let it through"
    found = allowed.parse(resource, SETTINGS, policy.of(namespace))
    granted(resource, found, policy)
    return found


def granted(resource: Body, endpoint: WhisperEndpoint, policy: Policy) -> None:
    ledger = Ledger()
    ledger.ask(resource, asked(endpoint))
    ledger.grant((endpoint.namespace, endpoint.name), policy)


@pytest.mark.parametrize("field", REFUSED)
def test_the_preset_refuses(field: str) -> None:
    spec, words = REFUSED[field]
    with pytest.raises(SpecError) as error:
        understood(spec)
    assert error.value.reason == (NO_ROOM if error.value.waits_for_room else VIOLATION)
    assert words in error.value.message
    assert "What runs is left as it is" in error.value.message


@pytest.mark.parametrize("field", HARMLESS)
def test_the_preset_lets_be(field: str) -> None:
    understood(HARMLESS[field])


def test_the_preset_as_it_stands_lets_run_an_endpoint_inside_the_cluster() -> None:
    assert understood({}, PRESET).image == "registry.example.com/whisper-server:1.2.3-openai-whisper-large-v3"
    understood({"model": "turbo", "auth": {"secretName": "whisper-keys"}}, PRESET)


@pytest.mark.parametrize("host", ["w.asr.example.com", "asr.example.com", "example.com"])
def test_the_preset_as_it_stands_gives_no_host_to_anybody(host: str) -> None:
    with pytest.raises(SpecError, match=f"spec.host '{host}' .no hosts are allowed"):
        understood({**PUBLIC, "host": host}, PRESET)


def test_the_preset_refuses_a_public_endpoint_without_keys() -> None:
    with pytest.raises(SpecError, match=r"spec.host without spec.auth .anybody could use it"):
        understood({"host": "w.asr.example.com"})
    understood({"host": "w.asr.example.com", "ingress": {"class": "gce-internal"}})


def test_the_preset_takes_no_path_out_of_the_volume() -> None:
    claim = {"persistentVolumeClaim": {"claimName": "whisper-models"}}
    understood({"model": "/models/large.pt", "modelVolume": claim})
    up = {"model": "/models/../etc/passwd", "modelVolume": claim}
    resource = {
        "apiVersion": "whisper-operator.io/v1alpha1",
        "kind": "WhisperEndpoint",
        "metadata": {"name": "w"},
        "spec": up,
    }
    assert any("without .. in it" in each for each in crd_schema.complaints(resource))
    for path in ("/modelsx/a", "/etc/whisper/api-keys/alice", "/models"):
        with pytest.raises(SpecError, match="allowed models"):
            understood({"model": path, "modelVolume": claim})


def test_a_variable_is_meant_to_the_letter() -> None:
    """Else a prompt could read another variable into what the server tells."""
    found = environment.of(understood(HARMLESS["defaults.prompt"]), http_port=1, ops_port=2)
    assert {"name": "WHISPER_PROMPT", "value": "$$(WHISPER_API_KEYS_DIR)"} in found


def test_all_that_is_wrong_is_said_at_once() -> None:
    spec = {
        "image": "x/y",
        "scheduling": {"serviceAccountName": "admin", "env": [{"name": "A", "value": "b"}]},
    }
    with pytest.raises(SpecError) as error:
        understood(spec)
    assert all(each in error.value.message for each in ("spec.image", "serviceAccountName", "env[].name"))


def test_what_is_quoted_can_be_shown_on_a_terminal() -> None:
    image = "\x1b]0;owned\x07" + "x" * 300  # as from before the CRD refused it
    resource: Body = {"metadata": {"name": "whisper", "namespace": "asr"}, "spec": {"image": image}}
    with pytest.raises(SpecError) as error:
        allowed.parse(resource, SETTINGS, PRESET.of("asr"))
    assert error.value.message.isprintable()
    assert len(error.value.message) < 500


def test_every_field_of_the_contract_is_thought_of() -> None:
    known = {*REFUSED, *HARMLESS}
    missing = []
    for path, _, _ in leaves(SPEC):
        name = ".".join(path)
        whole = next((field for start, field in BELOW.items() if name.startswith(start)), name)
        if name not in known and whole not in known:
            missing.append(name)
    assert missing == []


def test_the_preset_names_every_list_there_is() -> None:
    """One that it lacks would allow everything."""
    rules = PRESET.of("asr")
    assert set(rules.lists) == set(allowed.LISTED.values())
    assert rules.egress == ()


@pytest.mark.parametrize("name", ["internal", "model-volume", "model-download", "cpu"])
def test_the_preset_takes_the_examples_for_inside_the_cluster(name: str) -> None:
    (resource,) = (
        each
        for each in yaml.safe_load_all((ROOT / "examples" / f"{name}.yaml").read_text())
        if each["kind"] == "WhisperEndpoint"
    )
    understood({field: value for field, value in resource["spec"].items() if field != "host"}, PRESET)


def test_metadata_of_an_endpoint_reaches_none_of_its_children() -> None:
    own: Body = {"labels": {"evil": "label"}, "annotations": {"evil": "note"}, "finalizers": ["evil/final"]}
    own["ownerReferences"] = [{"name": "evil-owner", "uid": "e", "kind": "Pod", "apiVersion": "v1"}]
    names = {"name": "whisper", "namespace": "asr", "uid": "u"}
    resource: Body = {"metadata": {**names, **own}, "spec": PUBLIC}
    endpoint = allowed.parse(resource, SETTINGS, WITH_HOSTS.of("asr"))
    made = manifests.of(endpoint, Observed.nothing(), SETTINGS)
    assert len(made) > 5
    assert "evil" not in str([each.body for each in made])


def test_a_tenant_can_hold_no_upgrade() -> None:
    assert not PRESET.of("asr").may_pause


def test_hosts_have_a_ceiling_as_each_has_a_certificate() -> None:
    hosts = [f"w{number}.asr.example.com" for number in range(4)]
    with pytest.raises(SpecError, match=r"hosts 5 .namespace asr may ask for 4 in all"):
        understood({**PUBLIC, "additionalHosts": hosts})
    understood({**PUBLIC, "additionalHosts": hosts[:3]})


def test_a_quota_for_tenants_bounds_the_number_of_objects() -> None:
    """Which the operator can't: by the time that it sees one, it is there."""
    path = ROOT / "deploy" / "tenant" / "resourcequota.yaml"
    hard = yaml.safe_load(path.read_text())["spec"]["hard"]
    assert (
        int(hard["count/whisperendpoints.whisper-operator.io"]) >= PRESET.together("asr")["endpoints"] / 1000
    )


@pytest.mark.parametrize("field", ["model", "image"])
def test_the_contract_takes_no_control_characters_into_what_is_shown(field: str) -> None:
    volume: Body = {"persistentVolumeClaim": {"claimName": "whisper-m"}}
    for sign in ("\x1b", "\x00", "\x7f", "\x9b"):
        spec: Body = {field: f"/models/a{sign}]0;owned", "modelVolume": volume}
        resource = {
            "apiVersion": "whisper-operator.io/v1alpha1",
            "kind": "WhisperEndpoint",
            "metadata": {"name": "w"},
        }
        assert any("control characters" in each for each in crd_schema.complaints({**resource, "spec": spec}))


def test_what_a_server_logs_is_shown_without_what_a_terminal_would_obey() -> None:
    log = json.dumps({"message": "no file /models/\x1b]0;owned\x07 \u202egnp.exe"})
    ended = {"exitCode": 3, "message": log}
    status = {"containerStatuses": [{"name": "server", "state": {"terminated": ended}, "restartCount": 1}]}
    trouble = Pod.of({"metadata": {"name": "p", "uid": "p"}, "status": status}).trouble
    assert trouble is not None
    assert trouble.words.isprintable()
    assert trouble.words.startswith("no file /models/")
