"""The installation's configuration and policy: the files that the operator reads, out of the ConfigMaps that its pods mount."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import yaml

from whisper_operator import config
from whisper_operator.config import Settings
from whisper_operator.doctor.facts import Facts, File, Installation
from whisper_operator.doctor.finding import ERROR, Finding, Gap, Result, Subject, Well, command
from whisper_operator.kube.kinds import CONFIG_MAP
from whisper_operator.kube.objects import Raw
from whisper_operator.offline import crd_schema
from whisper_operator.policy import reading
from whisper_operator.policy.rules import Policy

AT_START = {"ConfigInvalid": "ends", "PolicyInvalid": "changes no endpoint"}
"""What an operator does that starts while a file makes no sense."""
MEANWHILE = {
    "ConfigInvalid": "goes by what it read when it started",
    "PolicyInvalid": "goes by the last policy that made sense",
}
"""What one does that runs."""


def check(facts: Facts) -> Iterator[Result]:
    for each in () if isinstance(facts.installations, Gap) else facts.installations:
        for file, code in ((each.config, "ConfigInvalid"), (each.policy_file, "PolicyInvalid")):
            if file is not None:
                yield _of(file, each, code)


def _of(file: File, installation: Installation, code: str) -> Result:
    subject = Subject(CONFIG_MAP.name, file.config_map, installation.namespace)
    if isinstance(file.content, Gap):
        return file.content.finding(file.name, Subject("File", file.name, installation.namespace))
    if file.content is None:
        return Finding(
            ERROR,
            "ConfigMissing",
            subject,
            f"{installation.subject} reads {file.name}, which none of the ConfigMaps has that its pods mount.",
            "Apply the installation anew.",
            "kubectl apply -k FOLDER",
        )
    fault = installation.faults.get(file.name)
    if fault is None:
        return Well(f"{file.name} of {installation.subject} makes sense")
    return Finding(
        ERROR,
        code,
        subject,
        f"{file.name} makes no sense. An operator that starts now {AT_START[code]}, one that runs {MEANWHILE[code]}: {fault}",
        "Correct it where it comes from, and apply the installation anew; or here:",
        command("kubectl", "edit", "configmap", "-n", installation.namespace, file.config_map),
    )


def understood(
    config_file: File | None, policy_file: File | None
) -> tuple[Settings | None, Policy | None, dict[str, str]]:
    """What the files say, and of each that makes no sense, by its name, why: whatever it is, as the rest is to be examined."""
    settings: Settings | None = Settings() if config_file is None else None
    policy: Policy | None = Policy() if policy_file is None else None
    faults: dict[str, str] = {}
    if config_file is not None and isinstance(config_file.content, str):
        try:
            settings = config.parse(yaml.safe_load(config_file.content) or {})
        except Exception as error:
            faults[config_file.name] = str(error) or type(error).__name__
    if policy_file is not None and isinstance(policy_file.content, str):
        try:
            policy = reading.load(policy_file.content, settings or Settings(), crd_schema.complaints)
        except Exception as error:
            faults[policy_file.name] = str(error) or type(error).__name__
    return settings, policy, faults


def named(deployment: Raw, option: str) -> str | None:
    """The name of the file that the operator is told to read by an option; None: it is told of none."""
    arguments = [str(each) for part in ("command", "args") for each in _container(deployment).get(part) or ()]
    for index, argument in enumerate(arguments):
        found, sign, value = argument.partition("=")
        if found == f"--{option}":
            path = value if sign else "".join(arguments[index + 1 : index + 2])
            return PurePosixPath(path).name
    return None


def config_maps(deployment: Raw) -> list[str]:
    """Those that its pods mount."""
    volumes = deployment["spec"]["template"]["spec"].get("volumes") or ()
    sources = [
        each for volume in volumes for each in (volume, *(volume.get("projected") or {}).get("sources", ()))
    ]
    return [each["configMap"]["name"] for each in sources if each.get("configMap")]


def _container(deployment: Raw) -> dict[str, Any]:
    return dict(deployment["spec"]["template"]["spec"]["containers"][0])
