"""Specs held against a policy."""

from typing import Any

import pytest
import yaml
from whisper_operator.policy import allowed
from whisper_operator.policy.reading import load
from whisper_operator.policy.rules import Policy
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint

from tests.unit.making import SETTINGS


def policy(**said: Any) -> Policy:
    return load(yaml.safe_dump({"preset": "none", **said}), SETTINGS)


def understood(spec: Any, under: Policy, namespace: str = "asr") -> WhisperEndpoint:
    resource = {"metadata": {"name": "whisper", "namespace": namespace, "uid": "u-1"}, "spec": spec}
    return allowed.parse(resource, SETTINGS, under.of(namespace))


def refused(spec: Any, under: Policy, namespace: str = "asr") -> str:
    with pytest.raises(SpecError) as error:
        understood(spec, under, namespace)
    assert error.value.reason == "PolicyViolation"
    return error.value.message
