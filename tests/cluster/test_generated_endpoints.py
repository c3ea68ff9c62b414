"""Endpoints that nobody thought of, made from the CRD's own schema.

Each is refused by the API server, with a message, or has children that it accepts; some have values that a child would be
refused for. Whatever is applied, the operator goes on, and keeps what runs. $WHISPER_GENERATED_ENDPOINTS says how many; unset,
the same few every time.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from whisper_operator.claims import CONFLICTS

from devcluster import Cluster, DevclusterError
from devcluster.installation import IMAGES, Operator
from tests.cluster.support import children, condition, endpoint, own_faults, until, wait_for_condition

CRD = Path(__file__).resolve().parents[2] / "crds" / "whisperendpoints.yaml"
NUMBER = int(os.environ.get("WHISPER_GENERATED_ENDPOINTS", "150"))

NAMES = ["a", "api-keys", "a.b", "x" * 63]
LABELS = ["a", "example.com/team", "a-b_c.D", ("a" * 60 + ".") * 3 + "b/c"]
GOOD: dict[str, list[Any]] = {
    "model": ["tiny", "base.en", "large", "large-v3", "turbo", "demo", "/models/x.pt"],
    "engine": ["openai-whisper", "faster-whisper"],
    "computeType": ["float32", "float16", "bfloat16", "int8", "int8_float16"],
    "device": ["cpu"],
    "language": ["en", "de", "no", "yue"],
    "task": ["transcribe", "translate"],
    "type": ["nvidia-tesla-t4", "nvidia-l4", "abacus"],
    "rollout": ["RollingUpdate", "RollingRecreate", "Recreate"],
    "mode": ["managed", "none"],
    "class": ["gce", "gce-internal", "traefik"],
    "host": ["a.example.com", "b.example.com", "x" * 60 + ".example.com"],
    "sizeLimit": ["4Gi", 10**10, "3.5G"],
    "cpu": [1, "500m", "2.5", "16"],
    "memory": ["4Gi", 10**10, "1.5G", "64Gi"],
    "ephemeral-storage": ["10Gi", 10**10, "1.5G"],
    "image": ["registry.example.com/whisper-server:1.2.3", "a"],
    "allowedOrigins": ["*", "https://a.example.com", "http://localhost:3000"],
    "topologyKey": LABELS,
    "key": LABELS,
    "value": ["", "a", "A-b_c.d"],
    "operator": ["Exists", "Equal"],
    "effect": ["NoSchedule", "PreferNoSchedule", "NoExecute"],
    "whenUnsatisfiable": ["ScheduleAnyway", "DoNotSchedule"],
    "env name": ["A", "LOG_LEVEL", "_x1"],
    "cidr": ["10.0.0.0/8", "169.254.169.254/32", "2001:db8::/32", "::/0"],
    "namespace": ["istio-system", "a"],
    "protocol": ["TCP", "UDP", "SCTP"],
    "map key": LABELS,
    "staticIPName": ["a", "whisper-1"],
    "preSharedCert": ["a", "whisper-1"],
    "sslPolicy": ["a", "whisper-1"],
    "securityPolicy": ["a", "whisper-1"],
    **dict.fromkeys(("claimName", "secretName", "name", "priorityClassName", "serviceAccountName"), NAMES),
}
"""What fields take, by name; "map key" is of labels and annotations. With any text, next to all would be refused."""

QUANTITIES = [
    -1,
    0,
    "-1",
    "0",
    "0m",
    "1m",
    "24GB",
    "1e3",
    "1 Gi",
    "0.5",
    "+1",
    "1.",
    "9" * 31,
    "1Ei",
    "",
    "00001",
]
KEYS = [
    "",
    "a b",
    "-a",
    "a/",
    "/a",
    "a..b/c",
    "a/b/c",
    "A.b/c",
    "x" * 64,
    ("a" * 60 + ".") * 5 + "b/c",
    "a\n",
]
HOSTILE: dict[str, list[Any]] = {
    "host": [
        "A.example.com",
        "a",
        "a..example.com",
        "-a.example.com",
        "x" * 64 + ".example.com",
        "1.2.3.4",
        "*.a.com",
    ],
    "cidr": [
        "10.0.0.0",
        "10.1.2.3/8",
        "10.0.0.0/33",
        "::ffff:10.0.0.0/104",
        "2001:DB8::/32",
        "010.0.0.0/8",
        "::/129",
    ],
    **dict.fromkeys(("cpu", "memory", "ephemeral-storage", "sizeLimit"), QUANTITIES),
    **dict.fromkeys(("map key", "key", "topologyKey"), KEYS),
}
ANYWHERE = [
    "a..b",
    "-a",
    "a-",
    "A",
    "a_b",
    "a b",
    "a\n",
    "\u00e9",
    "x" * 64,
    "x" * 254,
    ".",
    "$(HOME)",
    "no",
    "1e3",
]
"""What some field, or some child, does not take."""

SPECIAL = [
    "kubernetes.io/config.mirror",
    "container.apparmor.security.beta.kubernetes.io/server",
    "scheduler.alpha.kubernetes.io/tolerations",
    "kubernetes.io/ingress.class",
    "pod-template-hash",
]
"""Keys of labels and annotations that Kubernetes goes by."""

ALPHABET = st.characters(codec="ascii", exclude_categories=["Cc"])


def mostly(good: list[Any], bad: list[Any]) -> st.SearchStrategy[Any]:
    """One in twelve is a bad one: an endpoint has several fields, and most shall be let through."""
    return st.integers(0, 11).flatmap(lambda number: st.sampled_from(good if number else bad))


def texts(name: str, schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    longest = min(schema.get("maxLength", 20), 20)
    if name not in GOOD:
        return st.text(ALPHABET, min_size=schema.get("minLength", 0), max_size=longest)
    return mostly(GOOD[name], [*HOSTILE.get(name, []), *ANYWHERE])


def values(schema: dict[str, Any], name: str = "") -> st.SearchStrategy[Any]:
    """Values that fit an OpenAPI schema as Kubernetes writes it, but for its rules, which some break."""
    match schema.get("type"):
        case "object" if "properties" in schema:
            fields = {
                key: values(below, "env name" if (name, key) == ("env", "name") else key)
                for key, below in schema["properties"].items()
                if not told(below)
            }
            required = {key: fields.pop(key) for key in schema.get("required", [])}
            some = (
                st.lists(st.sampled_from(sorted(fields)), max_size=4, unique=True) if fields else st.just([])
            )
            return some.flatmap(
                lambda chosen: st.fixed_dictionaries(
                    {**required, **{key: or_null(fields[key]) for key in chosen}}
                )
            )
        case "object":
            keys = mostly(GOOD["map key"], [*HOSTILE["map key"], *SPECIAL])
            return st.dictionaries(keys, values(schema["additionalProperties"], "value"), max_size=3)
        case "array":
            most = min(schema.get("maxItems", 3), 3)
            item = "host" if name == "additionalHosts" else name
            return st.lists(values(schema["items"], item), max_size=most)
        case "integer":
            low, high = schema.get("minimum", 0), schema.get("maximum", 10**6)
            return st.one_of(st.sampled_from([low, high]), st.integers(low, min(high, low + 20)))
        case "boolean":
            return st.booleans()
        case _:
            return texts(name, schema)


def told(schema: dict[str, Any]) -> bool:
    """Whether it is there only to say what to write instead."""
    return any(rule["rule"] == "false" for rule in schema.get("x-kubernetes-validations", ()))


def or_null(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What may be absent may be null."""
    return st.integers(0, 15).flatmap(lambda number: strategy if number else st.none())


def generated(number: int) -> list[dict[str, Any]]:
    """So many specs, the same ones each time if $WHISPER_GENERATED_ENDPOINTS is unset."""
    schema = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found: list[dict[str, Any]] = []

    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        derandomize="WHISPER_GENERATED_ENDPOINTS" not in os.environ,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(values(schema["properties"]["spec"]))
    def collect(spec: dict[str, Any]) -> None:
        found.append(spec)

    collect()
    return found


def documents(bodies: list[dict[str, Any]]) -> str:
    """As JSON, in which text that looks like a number stays text for everybody."""
    return "\n---\n".join(json.dumps(body) for body in bodies)


def one_by_one(cluster: Cluster, bodies: list[dict[str, Any]], *options: str) -> list[str]:
    """Apply all; what the API server complained of. kubectl goes on after an object that is refused."""
    text = documents(bodies)
    try:
        cluster.kubectl("apply", "--server-side", "--force-conflicts", *options, "-f", "-", input=text)
    except DevclusterError as error:
        return str(error).splitlines()
    return []


def refusals(complaints: list[str]) -> list[str]:
    """Those of the API server, not warnings."""
    return [line for line in complaints if "Error from server" in line]


def rendered(tmp_path: Path, endpoints: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    config = tmp_path / "config"
    config.write_text(yaml.safe_dump({"server": IMAGES}))
    done = subprocess.run(
        [sys.executable, "-m", "whisper_operator", "render", "-f", "-", "--config", str(config)],
        input=documents(endpoints),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return list(yaml.safe_load_all(done.stdout)), done.stderr


def name_in(explanation: str) -> str:
    """The endpoint that a line of render's standard error is about."""
    return explanation.split("WhisperEndpoint ")[1].split(":")[0]


@pytest.mark.timeout(900 + NUMBER)
def test_whatever_the_schema_lets_through_is_carried_out_or_explained(
    installed: Cluster, operator: Operator, namespace: str, tmp_path: Path
) -> None:
    specs = generated(NUMBER)
    bodies = [endpoint(f"g{index}", namespace, **spec) for index, spec in enumerate(specs)]
    installed.apply(endpoint("kept", namespace, host="kept.example.com"))
    wait_for_condition(installed, namespace, "kept")
    kept = {name: child["metadata"]["uid"] for name, child in children(installed, namespace).items()}

    complaints = one_by_one(installed, bodies)
    items = installed.get("whisperendpoints", "-n", namespace)["items"]
    accepted = [item for item in items if item["metadata"]["name"] != "kept"]
    assert len(accepted) > NUMBER // 10, "hardly anything passes: this test would prove little"
    refused = len(bodies) - len(accepted)
    assert len(refusals(complaints)) >= refused

    # Offline, the same ones are refused.
    _, explanations = rendered(tmp_path, bodies)
    invalid = {name_in(line) for line in explanations.splitlines() if ": InvalidSpec: " in line}
    assert invalid == {each["metadata"]["name"] for each in bodies} - {
        each["metadata"]["name"] for each in accepted
    }

    # Of each that was let through, the children are accepted, or a message says why there are none.
    offline, explanations = rendered(tmp_path, accepted)
    assert refusals(one_by_one(installed, offline, "--dry-run=server", "--field-manager=trial")) == []
    # Which of two with one host has it, their ages decide: offline their order, in the cluster their creation.
    told = [
        line for line in explanations.splitlines() if not any(f": {each}: " in line for each in CONFLICTS)
    ]
    by_name = Counter(map(name_in, told))

    def all_told() -> bool:
        found = installed.get("whisperendpoints", "-n", namespace)["items"]
        ready = [(item["metadata"]["generation"], condition(item, "Ready")) for item in found]
        return all(each.get("observedGeneration") == generation for generation, each in ready)

    until(all_told, "a status for each", ceiling=300)
    for item in installed.get("whisperendpoints", "-n", namespace)["items"]:
        ready, name = condition(item, "Ready"), item["metadata"]["name"]
        assert ready["reason"] != "ApplyRefused", f"{json.dumps(item['spec'])}: {ready['message']}"
        if name in by_name:
            assert ready["status"] == "False"
            assert ready["message"]

    # One endpoint becomes each of them in turn: nothing of a running one is deleted for a spec that can't work.
    for item in accepted[:: max(1, len(accepted) // 15)]:
        if item["metadata"]["name"] in by_name:
            installed.apply(endpoint("kept", namespace, **item["spec"]))
            wait_for_condition(installed, namespace, "kept", status="False")
            now = {name: child["metadata"]["uid"] for name, child in children(installed, namespace).items()}
            assert kept.items() <= now.items()
    assert own_faults(operator) == []
