"""docs/reference/: what the code, the CRD and the schemas say now."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from whisper_operator.config import ConfigError, parse

from scripts import reference
from tests.unit.test_every_field import SPEC, leaves

CRD = yaml.safe_load((reference.ROOT / "crds" / "whisperendpoints.yaml").read_text())
SCHEMA = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
PAGE = reference.endpoint()


@pytest.mark.parametrize("name", reference.MAKERS)
def test_a_page_is_up_to_date(name: str) -> None:
    made = reference.MAKERS[name]()
    kept = (reference.PAGES / name).read_text()
    assert kept == made, "write it anew: PYTHONPATH=operator .venv/bin/python -m scripts.reference"


def messages(schema: Any) -> set[str]:
    """Of all rules in a schema."""
    if isinstance(schema, list):
        return set().union(*map(messages, schema))
    if not isinstance(schema, Mapping):
        return set()
    own = {each["message"] for each in schema.get("x-kubernetes-validations", ())}
    return own.union(*(messages(each) for name, each in schema.items() if name != "x-kubernetes-validations"))


def test_every_field_is_there_with_every_rule() -> None:
    headings = set(re.findall(r"^####? (.+)$", PAGE, re.MULTILINE))
    fields = {".".join(path).replace(".[]", "[]") for path, _, _ in leaves(SPEC)}
    assert {each.removesuffix("[]") for each in fields} - headings == set()
    said = PAGE.replace("\\", "")
    missing = [each for each in messages(SCHEMA) if " ".join(each.split()) not in said]
    assert missing == []


def test_the_conditions_are_those_of_the_contract() -> None:
    words = SCHEMA["properties"]["status"]["properties"]["conditions"]["description"]
    assert set(reference.CONDITIONS) == set(re.findall(r"[A-Z]\w+", words))


def known(content: dict[str, Any]) -> set[str]:
    """The settings that the configuration takes in a place, as it names them to who writes another."""
    with pytest.raises(ConfigError) as told:
        parse(content)
    return set(str(told.value).rpartition("the settings here are ")[2].split(", "))


def test_the_settings_are_those_that_the_configuration_takes() -> None:
    told = {name.partition(".")[0] for name in reference.SETTINGS}
    assert told == known({"nonsense": 1})
    for place in {name.partition(".")[0] for name in reference.SETTINGS if "." in name}:
        below = {name.partition(".")[2] for name in reference.SETTINGS if name.startswith(f"{place}.")}
        assert below == known({place: {"nonsense": 1}})
    assert set(reference.ENTRY) == known({"accelerators": {"x": {"nonsense": 1}}})
