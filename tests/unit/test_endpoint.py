"""Parsing: what is absent is filled in, what can't work is a SpecError that says what to write, and no field is forgotten."""

from decimal import Decimal
from typing import Any

import pytest
from whisper_operator.config import ConfigError, Settings
from whisper_operator.config import parse as parse_settings
from whisper_operator.spec.endpoint import Autoscaling, SpecError, WhisperEndpoint, parse
from whisper_operator.spec.quantity import in_bytes, number

SETTINGS = Settings(server_repository="registry.example.com/whisper-server", server_version="1.2.3")
PVC = {"persistentVolumeClaim": {"claimName": "models"}}


def endpoint(settings: Settings = SETTINGS, **spec: Any) -> WhisperEndpoint:
    return parse({"metadata": {"name": "whisper", "namespace": "asr", "uid": "1"}, "spec": spec}, settings)


def test_an_empty_spec_is_the_largest_model_on_one_t4_inside_the_cluster() -> None:
    found = endpoint()
    assert (found.model, found.engine, found.replicas, found.rollout) == (
        "large-v3",
        "openai-whisper",
        1,
        "RollingUpdate",
    )
    assert found.image == "registry.example.com/whisper-server:1.2.3-openai-whisper-large-v3"
    assert found.gpu is not None
    assert (found.gpu.type, found.gpu.spot) == ("nvidia-tesla-t4", False)
    assert found.resources.requests == {"cpu": "4", "memory": "24Gi", "ephemeral-storage": "2Gi"}
    assert found.resources.limits == {"memory": "24Gi", "ephemeral-storage": "2Gi"}
    assert found.limits.request_timeout_seconds == 600
    assert found.public is None


@pytest.mark.parametrize(
    ("written", "meant"),
    [("large", "large-v3"), ("large-v3-turbo", "turbo"), ("turbo", "turbo"), ("tiny.en", "tiny.en")],
)
def test_second_names_of_a_model_share_one_image(written: str, meant: str) -> None:
    assert endpoint(model=written).model == meant
    assert endpoint(model=written).image.endswith(f"-{meant}")


def test_room_for_uploads_follows_the_limits() -> None:
    gib = 1 << 30
    found = endpoint(limits={"maxUploadBytes": gib, "maxQueue": 9})
    assert found.resources.requests["ephemeral-storage"] == "11Gi"


def test_room_for_weights_is_added_when_they_lie_on_the_node() -> None:
    volume = {"emptyDir": {"sizeLimit": "3500Mi"}}
    found = endpoint(modelVolume=volume)
    assert found.resources.requests["ephemeral-storage"] == "6Gi"
    assert found.resources.scratch == "2Gi"
    claimed = endpoint(modelVolume=PVC)
    assert claimed.resources.requests["ephemeral-storage"] == "2Gi"
    own = endpoint(modelVolume=volume, resources={"requests": {"ephemeral-storage": "8Gi"}})
    assert own.resources.limits["ephemeral-storage"] == own.resources.scratch == "8Gi"


@pytest.mark.parametrize(("model", "storage"), [("large-v3", "5Gi"), ("tiny.en", "2Gi"), ("demo", "2Gi")])
def test_an_engine_with_a_format_of_its_own_has_room_for_a_copy(model: str, storage: str) -> None:
    found = endpoint(model=model, engine="faster-whisper").resources
    assert found.requests["ephemeral-storage"] == found.scratch == storage
    own = endpoint(model="/models/x.pt", engine="faster-whisper", modelVolume=PVC).resources
    assert own.scratch == "5Gi"


def test_weights_on_a_volume_need_no_image_of_the_model() -> None:
    found = endpoint(modelVolume={"emptyDir": {"sizeLimit": "4Gi"}}, engine="faster-whisper")
    assert found.image == "registry.example.com/whisper-server:1.2.3-faster-whisper"


def test_autoscaling_goes_by_requests_on_gpus_and_by_cpus_on_cpus() -> None:
    scaled = endpoint(autoscaling={"max": 4})
    assert scaled.replicas is None
    assert scaled.autoscaling == Autoscaling(1, 4, 8)
    on_cpus = endpoint(device="cpu", autoscaling={"min": 2, "max": 4}).autoscaling
    assert on_cpus == Autoscaling(2, 4, None)
    told = endpoint(device="cpu", autoscaling={"max": 4, "targetInFlight": 3}).autoscaling
    assert told is not None
    assert told.in_flight == 3
    short = endpoint(autoscaling={"max": 4}, limits={"maxQueue": 6}).autoscaling
    assert short is not None
    assert short.in_flight == 3  # a target that the queue can exceed
    suspended = endpoint(autoscaling={"max": 4}, suspend=True)
    assert (suspended.replicas, suspended.autoscaling) == (0, None)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            {"autoscaling": {"adapter": "x"}},
            "autoscaling.adapter is not a setting; the settings here are metric",
        ),
        ({"autoscaling": {"metric": 1}}, "autoscaling.metric must be a string: put 1 in quotes"),
        ({"monitoring": {"namespaces": "gmp-system"}}, "namespaces must be a list, not"),
        ({"monitoring": {"namespaces": [1]}}, r"monitoring.namespaces\[0\] must be a string, not 1"),
        ({"namespaces": []}, "namespaces must name at least one; leave it out to look after all"),
        ({"namespaces": None}, "namespaces must name at least one; leave it out to look after all"),
        ({"namespaces": "asr"}, "namespaces must be a list, not"),
        (
            {"server": {"repository": "r", "version": 0.1}},
            "server.version must be a string: put 0.1 in quotes",
        ),
        (
            {"server": {"repository": "r:1", "version": "1"}},
            "server.repository can't be part of an image's name",
        ),
        ({"autoscaling": {"metric": "a/b"}}, "autoscaling.metric can't have / or % in it"),
        (
            {"accelerators": {"x": {"resource": "gpu"}}},
            "accelerators.x.resource must be the name of a device",
        ),
        ({"accelerators": {"x": {"nodeSelector": {"a": "-"}}}}, "which no label of a node can be"),
        (
            {"accelerators": {"x": {"nodeSelector": {"a": 1}}}},
            "nodeSelector.a must be a string: put 1 in quotes",
        ),
        ({"accelerators": {"x": {"tolerations": [{"value": "a"}]}}}, "needs a key, or operator: Exists"),
        (
            {"accelerators": {"x": {"tolerations": [{"key": "", "value": "a"}]}}},
            "needs a key, or operator: Exists",
        ),
        (
            {"accelerators": {"x": {"tolerations": [{"key": "a b"}]}}},
            r"accelerators.x.tolerations\[0\].key must be the key of a taint, not 'a b'",
        ),
        (
            {"accelerators": {"x": {"tolerations": [{"key": "a", "value": "b c"}]}}},
            r"tolerations\[0\].value must be the value of a taint, not 'b c'",
        ),
        (
            {"accelerators": {"x": {"tolerations": [{"key": "a", "operator": "Exist"}]}}},
            r"tolerations\[0\].operator must be Exists or Equal, not 'Exist'",
        ),
        (
            {"accelerators": {"x": {"spot": {"tolerations": [{"key": "a", "effect": "NoSchedul"}]}}}},
            r"x.spot.tolerations\[0\].effect must be NoSchedule, PreferNoSchedule or NoExecute, not 'NoSchedul'",
        ),
        (
            {
                "accelerators": {
                    "x": {"tolerations": [{"key": "a", "effect": "NoExecute", "tolerationSeconds": "x"}]}
                }
            },
            r"tolerations\[0\].tolerationSeconds must be a whole number, not 'x'",
        ),
        (
            {
                "accelerators": {
                    "x": {"tolerations": [{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 5}]}
                }
            },
            r"tolerations\[0\] has tolerationSeconds, which only effect: NoExecute takes",
        ),
        (
            {"accelerators": {"x": {"nodeSelector": {f"{'a' * 254}/b": "c"}}}},
            "which no label of a node can be",
        ),
        ({"accelerators": {"x": {"spot": {"taint": "a"}}}}, "accelerators.x.spot.taint is not a setting"),
        (
            {"networkPolicy": {"endpoints": ["all"]}},
            "networkPolicy.endpoints is not a setting; the settings here are egress, enabled",
        ),
        ({"networkPolicy": {"egress": [{"cidr": "10.0.0.0"}]}}, "must be a network such as 10.0.0.0/8"),
        ({"networkPolicy": {"egress": [{}]}}, r"networkPolicy.egress\[0\] needs cidr, namespace or ports"),
        ({"networkPolicy": {"egress": [{"ports": [{"port": 70000}]}]}}, "needs a port from 1 to 65535"),
        ({"networkPolicy": {"egress": [{"ports": [{"port": 7, "endPort": 6}]}]}}, "an endPort not below it"),
        ({"networkPolicy": {"egress": [{"to": "a"}]}}, r"egress\[0\].to is not a setting"),
        (
            {"networkPolicy": {"egress": [{"namespace": "istio system"}]}},
            r"networkPolicy.egress\[0\].namespace must be the name of a namespace, not 'istio system'",
        ),
        ({"networkPolicy": {"egress": [{"namespace": ""}]}}, "must be the name of a namespace, not ''"),
        (
            {"networkPolicy": {"egress": [{"namespace": "a" * 64}]}},
            "must be the name of a namespace, not 'aaa",
        ),
        ({"namespaces": ["asr-*"]}, "namespaces must hold names of namespaces, not 'asr-\\*'"),
        (
            {"monitoring": {"namespaces": ["a" * 64]}},
            "monitoring.namespaces must hold names of namespaces, not 'aaa",
        ),
        ({"healthPort": 99999}, "healthPort must be at most 65535, not 99999"),
        ({"healthPort": 0}, "healthPort must be at least 1, not 0"),
    ],
)
def test_a_wrong_setting_is_named(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_settings(raw)


def test_what_an_api_server_takes_is_taken() -> None:
    tolerations = [
        {"operator": "Exists"},
        {"key": "example.com/gpu", "operator": "Equal", "value": "", "effect": "NoSchedule"},
        {"key": "gpu", "value": "a100", "effect": "NoExecute", "tolerationSeconds": 30},
    ]
    found = parse_settings(
        {
            "accelerators": {"x": {"tolerations": tolerations}},
            "networkPolicy": {"egress": [{"namespace": "a" * 63}]},
            "monitoring": {"namespaces": ["0-a"]},
            "healthPort": 65535,
        }
    )
    assert list(found.accelerators["x"].tolerations) == tolerations


@pytest.mark.parametrize(
    ("written", "meant"),
    [("1", 1), ("4k", 4000), ("1.5Ki", 1536), ("512Mi", 512 << 20), ("4Gi", 4 << 30), ("2T", 2 * 10**12)],
)
def test_amounts_of_bytes(written: str, meant: int) -> None:
    assert in_bytes(written) == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [(4, "4"), (0.5, "0.5"), ("250m", "0.25"), ("7u", "0.000007"), ("1e3", "1000"), ("2E", "2e18"), ("1Ei", str(2**60))],
)  # fmt: skip
def test_a_quantity_is_what_kubernetes_takes_it_for(written: object, meant: str) -> None:
    assert number(written) == Decimal(meant)


@pytest.mark.parametrize(
    "written", ["", "x", "4GB", "4K", "4ki", " 4", "1_0", "inf", "1e", "1e999999999", None, {}]
)
def test_what_is_no_quantity_is_no_number(written: object) -> None:
    with pytest.raises(ValueError, match="is no quantity: write it like 500m, 4 or 24Gi"):
        number(written)


def test_a_limit_alone_is_the_request_too() -> None:
    found = endpoint(resources={"limits": {"cpu": 2, "memory": "8Gi"}})
    assert found.resources.requests["cpu"] == "2"
    assert found.resources.requests["memory"] == "8Gi"


def test_suspended_means_no_replicas_whatever_their_number() -> None:
    assert endpoint(replicas=5, suspend=True).replicas == 0


def test_device_cpu_asks_for_no_gpu() -> None:
    assert endpoint(device="cpu").gpu is None


def test_without_an_image_the_message_says_how_to_get_one() -> None:
    with pytest.raises(SpecError, match="make images") as caught:
        endpoint(Settings())
    assert caught.value.reason == "ImageNotConfigured"
    assert endpoint(Settings(), image="me/server:1").image == "me/server:1"


def test_an_unknown_accelerator_names_the_known_ones() -> None:
    with pytest.raises(SpecError, match="nvidia-l4, nvidia-tesla-a100") as caught:
        endpoint(accelerator={"type": "abacus"})
    assert caught.value.reason == "UnknownAccelerator"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"replicas": "two"}, "spec.replicas must be a whole number, not 'two'"),
        ({"replicas": True}, "spec.replicas must be a whole number, not True"),
        ({"limits": 7}, "spec.limits must be a mapping, not 7"),
        ({"limits": {"maxQueue": 1.5}}, "spec.limits.maxQueue must be a whole number"),
        ({"model": ["tiny"]}, "spec.model must be a string"),
        ({"host": "a.example.com", "additionalHosts": [1]}, r"spec.additionalHosts\[0\] must be a string"),
        (
            {"scheduling": {"podLabels": {"a": 1}}},
            "spec.scheduling.podLabels.a must be a string: put 1 in quotes",
        ),
        ({"imagePullSecrets": ["x"]}, r"spec.imagePullSecrets\[0\] must be a mapping"),
        ({"imagePullSecrets": [{}]}, r"spec.imagePullSecrets\[0\].name is missing"),
        ({"scheduling": {"env": [{"name": "A"}]}}, r"spec.scheduling.env\[0\].value is missing"),
        (
            {"scheduling": {"topologySpread": [{}]}},
            r"spec.scheduling.topologySpread\[0\].topologyKey is missing",
        ),
        ({"auth": {}}, "spec.auth.secretName is missing"),
        ({"modelVolume": {}}, "spec.modelVolume takes exactly one of persistentVolumeClaim and emptyDir"),
        (
            {"modelVolume": {"emptyDir": {"sizeLimit": "1Gi"}}},
            "spec.modelVolume.emptyDir.sizeLimit 1Gi is too small for large-v3, which takes 2950Mi: make it larger",
        ),
        (
            {"modelVolume": {"emptyDir": {"sizeLimit": "4GB"}}},
            "'4GB' is no amount of bytes: write it like 512Mi",
        ),
        (
            {
                "modelVolume": {"emptyDir": {"sizeLimit": "4Gi"}},
                "resources": {"requests": {"ephemeral-storage": "4Gi"}},
            },
            "ephemeral-storage 4Gi leaves no room beside the weights",
        ),
        ({"resources": {"requests": {"cpu": []}}}, "spec.resources.requests.cpu must be a quantity"),
    ],
)
def test_a_wrong_type_is_named_with_its_path(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        endpoint(**spec)


def test_spot_nodes_are_those_that_the_installation_knows() -> None:
    table = {
        "rtx-4090": {"nodeSelector": {"gpu": "rtx-4090"}},
        "nvidia-h200": {"nodeSelector": {"cloud.google.com/gke-accelerator": "nvidia-h200"}},
    }
    settings = parse_settings({"server": {"repository": "r", "version": "1"}, "accelerators": table})
    endpoint(settings, accelerator={"type": "rtx-4090"})
    endpoint(settings, accelerator={"type": "nvidia-h200", "spot": True})
    with pytest.raises(SpecError, match="no spot nodes with rtx-4090: leave spot out") as caught:
        endpoint(settings, accelerator={"type": "rtx-4090", "spot": True})
    assert caught.value.reason == "SpotNotOffered"


def test_nulls_are_absent_wherever_they_stand() -> None:
    nulls: dict[str, Any] = {
        "replicas": None,
        "resources": {"requests": None, "limits": {"cpu": None}},
        "scheduling": {
            "tolerations": [{"operator": "Exists", "key": None, "value": None}],
            "podLabels": {"a": None},
        },
        "networkPolicy": {"enabled": None, "egress": None},
        "additionalHosts": None,
    }
    assert endpoint(**nulls) == endpoint(scheduling={"tolerations": [{"operator": "Exists"}]})


def test_a_resource_that_is_none_at_all() -> None:
    for resource in ({}, {"metadata": None, "spec": None}, {"metadata": {"name": "x"}, "spec": []}):
        with pytest.raises(SpecError):
            parse(resource, SETTINGS)
