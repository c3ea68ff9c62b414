"""Where a model's weights lie: in the image, on a claim that replicas share, or downloaded at each pod's start."""

from typing import Any

from devcluster import Cluster
from devcluster.installation import Operator
from tests.cluster.support import children, endpoint, patch, wait_for_condition

CLAIM = {"persistentVolumeClaim": {"claimName": "models"}}
EMPTY = {"emptyDir": {"sizeLimit": "2Gi"}}


def provide(cluster: Cluster, namespace: str) -> None:
    """A claim, and a volume for it that many nodes can read."""
    volume: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"models-{namespace}"},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "capacity": {"storage": "10Gi"},
            "claimRef": {"name": "models", "namespace": namespace},
            "persistentVolumeReclaimPolicy": "Retain",
            "nfs": {"server": "nfs.example.com", "path": "/models"},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models", "namespace": namespace},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "volumeName": f"models-{namespace}",
            "resources": {"requests": {"storage": "10Gi"}},
        },
    }
    cluster.apply(volume, claim)


def change(cluster: Cluster, namespace: str, **spec: Any) -> dict[str, Any]:
    """The pod spec of the Deployment once the change is served."""
    patch(cluster, namespace, **spec)
    wait_for_condition(cluster, namespace, "whisper")
    return pod(cluster, namespace)


def pod(cluster: Cluster, namespace: str) -> dict[str, Any]:
    return dict(children(cluster, namespace)["Deployment/whisper"]["spec"]["template"]["spec"])


def test_the_weights_move_from_image_to_claim_to_pod_and_back(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    provide(installed, namespace)
    installed.apply(endpoint("whisper", namespace, model="turbo", replicas=2))
    wait_for_condition(installed, namespace, "whisper")
    baked = pod(installed, namespace)
    assert baked["containers"][0]["image"].endswith(":0.1.0-openai-whisper-turbo")

    claimed = change(installed, namespace, modelVolume=CLAIM)
    assert claimed["containers"][0]["image"].endswith(":0.1.0-openai-whisper")
    (volume,) = (each for each in claimed["volumes"] if each["name"] == "models")
    assert volume["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    # Both replicas run, on one claim.
    pods = installed.get("pods", "-n", namespace, "-l", "whisper-operator.io/endpoint=whisper")["items"]
    assert [each["status"]["phase"] for each in pods] == ["Running"] * 2

    downloaded = change(installed, namespace, modelVolume={"persistentVolumeClaim": None, **EMPTY})
    (volume,) = (each for each in downloaded["volumes"] if each["name"] == "models")
    assert volume["emptyDir"] == {"sizeLimit": "2Gi"}
    (download,) = downloaded["initContainers"]
    assert download["args"] == ["--preload", "turbo"]
    egress = children(installed, namespace)["NetworkPolicy/whisper"]["spec"]["egress"]
    assert {"port": 443, "protocol": "TCP"} in [port for rule in egress for port in rule["ports"]]

    assert change(installed, namespace, modelVolume=None) == baked
    egress = children(installed, namespace)["NetworkPolicy/whisper"]["spec"]["egress"]
    assert {"port": 443, "protocol": "TCP"} not in [port for rule in egress for port in rule["ports"]]


def test_keys_engine_and_defaults_come_and_go(installed: Cluster, operator: Operator, namespace: str) -> None:
    installed.kubectl("create", "secret", "generic", "keys", "-n", namespace, "--from-literal=team=s3cret")
    installed.apply(endpoint("whisper", namespace))
    wait_for_condition(installed, namespace, "whisper")
    plain = pod(installed, namespace)
    more = change(
        installed,
        namespace,
        auth={"secretName": "keys"},
        engine="faster-whisper",
        computeType="int8_float16",
        defaults={"vad": True},
    )
    assert {"name": "api-keys", "secret": {"secretName": "keys", "defaultMode": 420}} in more["volumes"]
    env = {each["name"]: each.get("value") for each in more["containers"][0]["env"]}
    assert env["WHISPER_API_KEYS_DIR"] == "/etc/whisper/api-keys"
    assert (env["WHISPER_ENGINE"], env["WHISPER_DTYPE"], env["WHISPER_VAD"]) == (
        "faster-whisper",
        "int8_float16",
        "true",
    )
    assert change(installed, namespace, auth=None, engine=None, computeType=None, defaults=None) == plain
