"""docs/troubleshooting.md: each fault under its reason, with the very words of the operator, written and checked by the tests.

    pytest tests/cluster/test_faults.py tests/cluster/test_faults_of_installations.py --write-troubleshooting

writes it; without that option the same tests fail where it is not up to date.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.support import condition

PAGE = Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md"

HEAD = """\
# Troubleshooting

`whisper-operator doctor NAME` says what is wrong and how to mend it, of an endpoint, the installation and what both need of the
cluster, DNS included: [what it looks at](doctor.md). What follows is what an endpoint says of itself.

`kubectl describe wep NAME` shows the conditions of an endpoint. The first thing in the way is what `Ready` speaks of; `Stalled`
is there, and True, when nothing will change until somebody acts. A message says what is wrong, in which object, and what to do.

Where nothing is wrong, `Ready` may still add a limit to mind: with `accelerator.spot`, a request that takes longer than the 25 s
that a Spot node gives its pods is lost when the node is taken back; and GKE waits 10 minutes at most for the pods of a node that
it scales down, so that a longer `limits.requestTimeoutSeconds` may be cut short.

An endpoint that is Ready with the reason `UpgradePending` waits for its turn
([Upgrades](upgrades.md#one-endpoint-after-the-other)). If that lasts:

- Who is on the way: `kubectl get deployments -A -l app.kubernetes.io/managed-by=whisper-operator -o json | jq -r '.items[] |
  select(.metadata.annotations["whisper-operator.io/upgrading"]) | .metadata.namespace + "/" + .metadata.name'`.
- Who stops the others: `whisper-operator doctor -A` names it. The metric `whisper_operator_upgrades{state="failed"}` counts them,
  the operator's log has `The upgrade of WhisperEndpoint NAME in namespace NAMESPACE fails (REASON)`, and that endpoint's `Ready`
  says what is wrong.
- If the new version is at fault, put back what was changed, such as `server.version`: that endpoint gets its old pods again, and
  nobody else is restarted. If the fault is that endpoint's own, mend it, or let the others pass: `kubectl annotate wep -n
  NAMESPACE NAME whisper-operator.io/paused=true`. Take the annotation away once the endpoint may be upgraded.

## Reasons

What conditions of an endpoint say when something is wrong, by their reasons, in their own words; the names are made up. Tests
make each of these faults happen on a development cluster, read the message, and mend it.

| reason | when |
| --- | --- |
"""

INSTALLATION = (
    "No server image is configured",
    "The cluster lacks GKE's kinds",
    "An autoscaler of somebody else's scales the Deployment",
    "A write fails again and again",
    "A right of the operator's was taken away",
    "The installation has no spot nodes of that type",
    "The installation's policy does not allow what the spec asks for",
    "The installation's policy has no room left for it",
)
"""Symptoms of what is wrong with an installation, or with the cluster under it; they come last."""


@dataclass(frozen=True)
class Entry:
    """A fault, as the page tells of it."""

    symptom: str
    kind: str
    """Of the condition that has the reason."""
    reason: str
    stalled: bool
    message: str
    cure: str

    def __str__(self) -> str:
        stalled = "It is `Stalled` until that is done." if self.stalled else "It is not `Stalled`."
        said = self.message.replace("<", "&lt;").replace("*", "\\*")
        cure = self.cure[0].upper() + self.cure[1:]
        return f"**{self.symptom}.** The condition `{self.kind}` says:\n\n> {said}\n\nWhat to do: {cure}. {stalled}\n"


def entry(symptom: str, cure: str, resource: dict[str, Any], kind: str) -> Entry:
    """That of an endpoint in such a state, without the names that are made up anew each time."""
    found = condition(resource, kind)
    message = _anonymous(found["message"], resource["metadata"]["namespace"])
    return Entry(symptom, kind, found["reason"], bool(condition(resource, "Stalled")), message, cure)


def _anonymous(message: str, namespace: str) -> str:
    replaced = message.replace(f"{namespace}.example.com", "whisper.example.com").replace(namespace, "asr")
    replaced = re.sub(r"whisper-[0-9a-f]{8,10}-[a-z0-9]{5}", "whisper-POD", replaced)
    replaced = re.sub(r"whisper-[0-9a-f]{8}\b", "whisper-HASH", replaced)
    replaced = re.sub(r"\bk8s1-[-a-z0-9]+", "k8s1-GROUP", replaced)
    return re.sub(r"\b0/\d+ nodes are available.*", "0/10 nodes are available: ...", replaced)


def page(entries: list[Entry]) -> str:
    """A list of the reasons, then a section for each, whose anchor is the reason in small letters."""
    by_reason: dict[str, list[Entry]] = {}
    for each in entries:
        by_reason.setdefault(each.reason, []).append(each)
    listed = (
        f"| [{reason}](#{reason.lower()}) | {'; '.join(each.symptom for each in found)} |\n"
        for reason, found in by_reason.items()
    )
    sections = (
        f"\n### {reason}\n\n" + "\n".join(str(each) for each in found) for reason, found in by_reason.items()
    )
    return HEAD + "".join([*listed, *sections])


def write(entries: list[Entry]) -> None:
    PAGE.write_text(page(entries))


def has(wanted: Entry) -> bool:
    """Whether the page as it is has it, in the section of its reason."""
    return str(wanted) in _sections().get(wanted.reason, "")


def symptoms() -> list[str]:
    """Those of the page as it is, sorted."""
    return sorted(
        each for text in _sections().values() for each in re.findall(r"^\*\*(.+)\.\*\* ", text, re.M)
    )


def listed() -> dict[str, str]:
    """The list at its beginning: symptoms by reason."""
    return dict(re.findall(r"^\| \[(\w+)\]\(#\w+\) \| (.+) \|$", PAGE.read_text(), re.M))


def _sections() -> dict[str, str]:
    """Text by reason."""
    parts = re.split(r"^### (\w+)\n", PAGE.read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
