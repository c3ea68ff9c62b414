"""The chart is deploy/ once more, and takes only values that the operator takes."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from whisper_operator import __version__
from whisper_operator.config import ConfigError, parse
from whisper_operator.policy.reading import PolicyError, load

from release import chart

ROOT = Path(__file__).resolve().parents[2]
VALUES = yaml.safe_load((chart.CHART / "values.yaml").read_text())
SCHEMA = json.loads((chart.CHART / "values.schema.json").read_text())


def examples(text: str) -> dict[str, Any]:
    """A file of settings with what it has in comments as examples: they begin right after the #, or deeper than words do."""
    values: dict[str, Any] = yaml.safe_load(re.sub(r"(?m)^#(?! \S)", "", re.sub(r"(?m)^# \S.*\n", "", text)))
    return values


def refused(**values: Any) -> list[str]:
    """What the schema says of the chart's own values with some others."""
    validator = jsonschema.Draft7Validator(SCHEMA)
    return [error.message for error in validator.iter_errors({**VALUES, **values})]


def test_what_is_made_is_up_to_date() -> None:
    stale = [path.name for path in chart.out_of_date()]
    assert stale == [], "run .venv/bin/python -m release.chart"


def test_a_value_without_its_place_in_deploy_stops_the_making(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base").mkdir()
    for name in ("rbac.yaml", "roles.yaml", "operator.yaml"):
        text = (chart.DEPLOY / "base" / name).read_text()
        (tmp_path / "base" / name).write_text(text.replace("  replicas: 2\n", "  replicas: 3\n"))
    monkeypatch.setattr(chart, "DEPLOY", tmp_path)
    with pytest.raises(
        chart.ChartError, match=r"Deployment whisper-operator of deploy/base/operator.yaml .*replicas: 2"
    ):
        chart.generated()


def test_the_schema_is_sound_and_takes_what_the_chart_says_itself() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert refused() == []


CONFIGS: list[dict[str, Any]] = [
    {},
    {"maxRollouts": 2, "settleSeconds": 0, "paused": True, "workers": 4, "listAgainSeconds": 60},
    {"maxRollouts": 0},
    {"maxRollouts": "2"},
    {"maxRolouts": 2},
    {"settleSeconds": -1},
    {"logLevel": "debug"},
    {"logLevel": "verbose"},
    {"paused": "yes"},
    {"monitoring": {"namespaces": ["monitoring"]}},
    {"monitoring": {"namespaces": ["Monitoring"]}},
    {"monitoring": {"namespaces": "monitoring"}},
    {"autoscaling": {"metric": "prometheus.googleapis.com|whisper_requests_in_flight|gauge"}},
    {"autoscaling": {"metric": "a/b"}},
    {"networkPolicy": {"enabled": False}},
    {"networkPolicy": {"egress": [{"namespace": "istio-system", "ports": [{"port": 15012}]}]}},
    {"networkPolicy": {"egress": [{"cidr": "10.0.0.0/8", "ports": [{"port": 1, "endPort": 9}]}]}},
    {"networkPolicy": {"egress": [{"cidr": "10.0.0.0/8", "namespace": "a"}]}},
    {"networkPolicy": {"egress": [{}]}},
    {"networkPolicy": {"egress": [{"ports": [{"port": 0}]}]}},
    {"networkPolicy": {"egress": [{"ports": [{"port": 1, "protocol": "ICMP"}]}]}},
    {"accelerators": {"rtx-4090": {"nodeSelector": {"nvidia.com/gpu.product": "RTX"}}}},
    {"accelerators": {"mi300": {"resource": "amd.com/gpu", "spot": {"nodeSelector": {"a": "b"}}}}},
    {"accelerators": {"mi300": {"resource": "gpu"}}},
    {"accelerators": {"mi300": {"nodeSelectors": {}}}},
    {"accelerators": {"mi300": {"nodeSelector": {"spot": True}}}},
    {"accelerators": {"mi300": {"tolerations": [{"key": "a", "operator": "Is"}]}}},
    {"accelerators": {"mi300": {"tolerations": [{"key": "a", "operator": "Exists"}]}}},
]


@pytest.mark.parametrize("config", CONFIGS, ids=json.dumps)
def test_the_schema_takes_what_the_operator_takes(config: dict[str, Any]) -> None:
    try:
        parse(config)
    except ConfigError:
        assert refused(config=config)
    else:
        assert refused(config=config) == []


def test_every_key_of_the_configuration_is_a_value() -> None:
    """Those in config, those that the chart has values for, and the port, which the chart's probes name."""
    with pytest.raises(ConfigError) as caught:
        parse({"": 1})
    known = set(str(caught.value).partition("the settings here are ")[2].split(", "))
    in_config = set(SCHEMA["definitions"]["config"]["properties"])
    assert known == in_config | {"server", "autopilot", "namespaces", "healthPort"}


@pytest.mark.parametrize("key", ["server", "autopilot", "namespaces", "healthPort"])
def test_nothing_is_said_in_two_places(key: str) -> None:
    assert refused(config={key: 1}) == [f"Additional properties are not allowed ('{key}' was unexpected)"]


def test_what_the_configuration_explains_by_example_is_taken() -> None:
    text = (chart.DEPLOY / "base" / "config.yaml").read_text()
    config = examples(text)
    parse(config)
    assert len(config) > 8
    own = {key: config.pop(key) for key in ("server", "autopilot", "namespaces")}
    assert refused(config=config, **own) == []


def test_the_policy_is_held_to_the_operators_own_schema() -> None:
    text = (chart.DEPLOY / "base" / "policy.yaml").read_text()
    policy = examples(text)
    load(yaml.safe_dump(policy), parse({}))
    assert len(policy) == 4
    assert refused(policy=policy) == []
    policy["everywhere"]["host"] = ["*"]
    with pytest.raises(PolicyError):
        load(yaml.safe_dump(policy), parse({}))
    assert refused(policy=policy)
    assert refused(policy={}) == ["'preset' is a required property"]


@pytest.mark.parametrize(
    "values",
    [
        {"replica": 2},
        {"replicas": "2"},
        {"image": {"repository": "registry.example.com/whisper:0.1.0"}},
        {"image": {"tag": "0.1.0"}},
        {"server": {"version": 0.1}},
        {"namespaces": "asr"},
        {"namespaces": ["ASR"]},
        {"namespaces": ["asr", "asr"]},
        {"tolerations": {"key": "a"}},
        {"imagePullSecrets": ["registry"]},
        {"resources": {"request": {}}},
        {"networkPolicy": {"apiServerPorts": []}},
        {"networkPolicy": {"scrapers": []}},
        {"clusterName": ""},
    ],
    ids=json.dumps,
)
def test_values_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    assert refused(**values)


def test_the_version_stands_once_and_all_else_follows() -> None:
    """The operator's package has it. What users copy, and what another package says of itself, is held to it here."""
    server = (ROOT / "server/whisper_server/__init__.py").read_text()
    assert f'__version__ = "{__version__}"' in server
    for name in ("example", "namespaced"):
        folder = ROOT / "deploy/overlays" / name
        (image,) = yaml.safe_load((folder / "kustomization.yaml").read_text())["images"]
        assert image["newTag"] == f"{__version__}-operator"
        assert yaml.safe_load((folder / "config.yaml").read_text())["server"]["version"] == __version__
    assert f"#  version: {__version__}\n" in (ROOT / "deploy/base/config.yaml").read_text()
    newest = re.search(r"(?m)^## ([0-9.]+)", (ROOT / "CHANGELOG.md").read_text())
    assert newest is not None
    assert newest[1] == __version__
    for document in ("README.md", "examples/model-volume.yaml", "docs/install-helm.md"):
        named = re.findall(
            r"(?:VERSION=|whisper:|version=|operator-)([0-9]+\.[0-9]+\.[0-9]+)", (ROOT / document).read_text()
        )
        assert set(named) <= {__version__}, document
