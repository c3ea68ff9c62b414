"""docs/reference/: pages made of what they speak of, the CRD, the configuration, the policy's schema and the command line.

    PYTHONPATH=operator .venv/bin/python -m scripts.reference

writes them. A test fails where one is not up to date.
"""

import argparse
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from whisper_operator.__main__ import _parser
from whisper_operator.accelerators import GKE_ACCELERATORS
from whisper_operator.config import Settings

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "reference"
MADE = "<!-- Made by scripts/reference.py: change what it is made of. -->\n"

CONDITIONS = {
    "Available": "Requests are answered, be it by pods of an older spec.",
    "AddressAssigned": "The load balancer has an address, which `status.address` and `status.dns` name. Absent without `host`.",
    "CertificateReady": "Every host's certificate serves. Absent without `host`, and without TLS.",
    "AutoscalingReady": "The autoscaler gets its metrics and acts on them. Absent without `autoscaling`.",
    "Ready": "All that the current spec asks for is there and serves. Its message speaks of the first thing in the way.",
    "Stalled": "Nothing will change until a person acts; the message says what to do. Absent otherwise.",
}

SETTINGS = {
    "server.repository": (
        "endpoints need `spec.image`",
        "where the server's images are; with `server.version`",
    ),
    "server.version": (
        "endpoints need `spec.image`",
        "their version: `REPOSITORY:VERSION-ENGINE-MODEL`, without the model for a `modelVolume`",
    ),
    "autopilot": ("", "whether the cluster is one of GKE Autopilot"),
    "accelerators": (
        "GKE's",
        "more types for `spec.accelerator.type`, or others of the same names: a mapping of entries as below",
    ),
    "autoscaling.metric": ("", "what the custom metrics API calls a pod's requests in flight"),
    "monitoring.namespaces": ("", "the namespaces whose pods may read metrics"),
    "networkPolicy.enabled": ("", "whether endpoints that don't say have a NetworkPolicy"),
    "networkPolicy.egress": (
        "`[]`",
        "ways out of every endpoint's pods, as [spec.networkPolicy.egress](whisperendpoint.md#networkpolicyegress)",
    ),
    "namespaces": ("all", "the only namespaces whose endpoints are looked after"),
    "maxRollouts": ("", "how many endpoints at a time get other pods for another reason than their own spec"),
    "settleSeconds": ("", "how long one of them has to serve before the next"),
    "paused": ("", "whether all of them wait"),
    "workers": ("", "how many endpoints are worked on at once"),
    "healthPort": ("", "where `/metrics`, `/healthz` and `/readyz` are"),
    "listAgainSeconds": ("", "how often all is read anew, in case that a watch has missed something"),
    "logLevel": ("", "`debug`, `info`, `warning` or `error`"),
}
ENTRY = {
    "nodeSelector": ("`{}`", "labels of the nodes that have it"),
    "resource": ("`nvidia.com/gpu`", "what the nodes' device plugin calls it"),
    "tolerations": ("of `nvidia.com/gpu`", "taints of these nodes, as in a pod"),
    "spot": (
        "none; GKE's for nodes with GKE's label",
        "`nodeSelector` and `tolerations` that pods with `accelerator.spot` have besides",
    ),
}


def endpoint() -> str:
    """docs/reference/whisperendpoint.md, from the CRD."""
    crd = yaml.safe_load((ROOT / "crds" / "whisperendpoints.yaml").read_text())["spec"]
    (version,) = crd["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    spec, status = (schema["properties"][name] for name in ("spec", "status"))
    kind = crd["names"]
    lines = [
        "# WhisperEndpoint",
        f"{schema['description']} `apiVersion: {crd['group']}/{version['name']}`, `kind: {kind['kind']}`, in a "
        f"namespace; short name `{kind['shortNames'][0]}`. `kubectl explain {kind['singular']}.spec` says the same.",
        "What may be absent may be null. What is absent is filled in by the operator, the installation's policy may set some of "
        "it, and `status.effective` shows the outcome. kubectl refuses whatever breaks a rule below, with that rule's own words.",
        *_rules("The object's name:", schema),
        "## spec",
        spec["description"],
        *_fields(spec, ""),
        "### Rules between fields",
        *_rules("Where fields depend on one another:", spec),
        "## status",
        status["description"],
        "### Conditions",
        "Each has `status` True, False or Unknown, a `reason` for programs, a `message` for people, and `observedGeneration`. "
        "[Troubleshooting](../troubleshooting.md) has the reasons, and what to do.",
        _table(
            ("condition", "what it says when True"),
            ((f"`{name}`", text) for name, text in CONDITIONS.items()),
        ),
        "### Fields of the status",
        _table(("field", "type", "what it is"), _told(status, "")),
        "## kubectl",
        "What `kubectl get wep` shows; `-o wide` adds the rest.",
        _table(
            ("column", "where it is from", "shown by"),
            (
                (
                    each["name"],
                    f"`{each['jsonPath']}`",
                    "`-o wide`" if each.get("priority") else "`kubectl get wep`",
                )
                for each in version["additionalPrinterColumns"]
            ),
        ),
        f"`kubectl scale wep NAME --replicas=3` writes `{version['subresources']['scale']['specReplicasPath']}`.",
    ]
    return _page(lines)


def _fields(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """Headings and texts of all fields below one."""
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        yield f"{'####' if path else '###'} {here}"
        yield from _field(field, required=name in schema.get("required", ()))
        yield from _rules("Each value:", field.get("additionalProperties", {}))
        items = field.get("items", {})
        yield from _rules("Each entry:", items)
        yield from _fields(items or field, f"{here}[]" if items else here)


def _field(field: Mapping[str, Any], required: bool) -> Iterator[str]:
    text, default = _default(" ".join(field.get("description", "").split()))
    if text:
        yield text
    facts = [_type(field), *_bounds(field)]
    if required:
        facts.append("required")
    if default := str(field.get("default", "")) or default:
        facts.append(f"default: {default}")
    yield "*" + "; ".join(facts) + "*"
    yield from _rules("Rules:", field)


def _default(text: str) -> tuple[str, str]:
    """A description, and what it says of the default at its end."""
    found = re.fullmatch(r"(.*?)\s*\bDefault(?: -|:) (.*?)\.?", text)
    return (found[1], found[2]) if found else (text, "")


def _type(field: Mapping[str, Any]) -> str:
    if field.get("x-kubernetes-int-or-string"):
        return "number or string"
    kind = str(field.get("type", "any"))
    if kind == "array":
        return f"list of {_type(field['items'])}s"
    if kind == "object" and "additionalProperties" in field:
        return f"map of {_type(field['additionalProperties'])}s"
    return kind


def _bounds(field: Mapping[str, Any]) -> Iterator[str]:
    words = {
        "minimum": "at least {}",
        "maximum": "at most {}",
        "maxLength": "at most {} characters",
        "maxItems": "at most {} entries",
        "maxProperties": "at most {} keys",
    }
    yield from (text.format(field[name]) for name, text in words.items() if name in field)


def _rules(title: str, field: Mapping[str, Any]) -> Iterator[str]:
    rules = [each["message"] for each in field.get("x-kubernetes-validations", ())]
    if rules:
        yield title
        yield "\n".join(f"- {_cell(each)}" for each in rules)


def _told(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    """Rows of the status."""
    for name, field in schema.get("properties", {}).items():
        yield f"`{path}{name}`", _type(field), _cell(field.get("description", ""))
        items = field.get("items", {})
        yield from _told(items if "properties" in items else field, f"{path}{name}{'[]' if items else ''}.")


def policy() -> str:
    """docs/reference/policy.md, from the policy's schema and its preset."""
    folder = ROOT / "operator" / "whisper_operator" / "policy"
    schema = yaml.safe_load((folder / "schema.yaml").read_text())
    preset = yaml.safe_load((folder / "multi-tenant.yaml").read_text())
    parts = schema["$defs"]

    def kind(field: Mapping[str, Any]) -> str:
        if "$ref" in field:
            return str(field["$ref"]).rpartition("/")[2]
        if "enum" in field:
            return ", ".join(f"`{each}`" for each in field["enum"])
        return "list" if field.get("type") == "array" else str(field.get("type", "as in spec"))

    def rows(fields: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str, str]]:
        for name, field in fields.items():
            held = preset.get(name, ...) if not path else ...
            shown = (
                ""
                if held is ...
                else f"`{yaml.safe_dump(held, default_flow_style=True, width=1000).strip().removesuffix('...').strip()}`"
            )
            yield f"`{path}{name}`", kind(field), _cell(field.get("description", "")), shown
            yield from rows(field.get("properties", {}), f"{path}{name}.")

    lines = [
        "# The policy file",
        "What an installation allows its endpoints: `policy.yaml` of an overlay, in the form of "
        "[deploy/base/policy.yaml](../../deploy/base/policy.yaml). [Security](../security.md) says what each line is against. "
        "`whisper-operator render -f FILE --policy policy.yaml` tells what it would refuse.",
        _table(
            ("key", "type", "meaning"),
            (
                (f"`{name}`", kind(field), _cell(field["description"]))
                for name, field in schema["properties"].items()
            ),
        ),
        "## rules",
        "In `everywhere`, and by namespace in `namespaces`. What stands for a namespace comes before what stands for all, "
        "and that before the preset. What is not said, and is not in the preset, is allowed.",
        _table(
            ("key", "type", "meaning", "with the preset `multi-tenant`"),
            rows(parts["rules"]["properties"], ""),
        ),
        "## names",
        _cell(parts["names"]["description"]),
        "## amounts",
        f"{parts['amounts']['description']} A count is a whole number, a quantity one of Kubernetes' such as `192Gi`.",
        _table(
            ("key", "type", "meaning"),
            (
                (f"`{name}`", kind(field), _cell(field.get("description", "")))
                for name, field in parts["amounts"]["properties"].items()
            ),
        ),
    ]
    return _page(lines)


def configuration() -> str:
    """docs/reference/configuration.md, from the file that is installed and the settings' defaults."""
    path = ROOT / "deploy" / "base" / "config.yaml"
    base = Settings()
    values = {
        "maxRollouts": base.max_rollouts,
        "settleSeconds": base.settle_seconds,
        "workers": base.workers,
        "healthPort": base.health_port,
        "listAgainSeconds": int(base.list_again_seconds),
        "logLevel": base.log_level,
        "autoscaling.metric": base.in_flight_metric,
        "monitoring.namespaces": "[" + ", ".join(base.scrapers) + "]",
        "networkPolicy.enabled": str(base.network_policy).lower(),
        "autopilot": "false",
        "paused": str(base.paused).lower(),
    }
    lines = [
        "# The operator's configuration",
        "`config.yaml` of an overlay, read when the operator starts; `kubectl apply -k` of a new one replaces its pods. A "
        "value that makes no sense, or a key that there is not, stops the start with a line that names it. What endpoints may "
        "ask for is in the [policy](policy.md).",
        _table(
            ("key", "when absent", "meaning"),
            (
                (f"`{name}`", f"`{values[name]}`" if name in values else absent, text)
                for name, (absent, text) in SETTINGS.items()
            ),
        ),
        "## An entry of accelerators",
        _table(
            ("key", "when absent", "meaning"),
            ((f"`{name}`", absent, text) for name, (absent, text) in ENTRY.items()),
        ),
        "Built in are GKE's " + ", ".join(f"`{name}`" for name in GKE_ACCELERATORS) + ".",
        "## The file as it is installed",
        f"```yaml\n{path.read_text().rstrip()}\n```",
    ]
    return _page(lines)


def commands() -> str:
    """docs/reference/command-line.md, from the parser."""
    parser = _parser()
    lines = ["# whisper-operator", parser.description or "", *_arguments(parser)]
    (chosen,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    for action in chosen._choices_actions:
        command = chosen.choices[action.dest]
        lines += [f"## whisper-operator {action.dest}", _sentence(command.description or action.help or "")]
        lines += [*_arguments(command), command.epilog or ""]
    return _page(
        [" ".join(each.split()) if not each.startswith(("|", "#")) else each for each in lines if each]
    )


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            continue
        value = action.metavar or (
            "{" + ",".join(map(str, action.choices)) + "}"
            if action.choices
            else action.dest.upper().removesuffix("S")
        )
        names = ", ".join(action.option_strings) + (f" {value}" if action.nargs != 0 else "")
        told = "show the version" if isinstance(action, argparse._VersionAction) else action.help or ""
        text = told % {
            **vars(action),
            "choices": ", ".join(map(str, action.choices or ())),
        }
        rows.append(
            (
                f"`{names.strip()}`" + (" (required)" if action.required and action.option_strings else ""),
                _cell(text),
            )
        )
    if rows:
        yield _table(("argument", "meaning"), rows)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.rstrip().endswith(".") else ".")


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(each) + " |" for each in lines)


def _cell(text: str) -> str:
    """A text in one line, whose signs mean themselves."""
    return re.sub(r"([|*<>\[\]])", r"\\\1", " ".join(text.split()))


def _page(paragraphs: list[str]) -> str:
    head, *rest = paragraphs
    return "\n\n".join([head, MADE.rstrip(), *rest]) + "\n"


MAKERS = {
    "whisperendpoint.md": endpoint,
    "configuration.md": configuration,
    "policy.md": policy,
    "command-line.md": commands,
}


def main() -> None:
    """Write every page."""
    PAGES.mkdir(exist_ok=True)
    for name, make in MAKERS.items():
        (PAGES / name).write_text(make())


if __name__ == "__main__":
    main()
