"""docs/troubleshooting.md: a table of faults with the very words of the operator, written and checked by the tests.

    pytest tests/cluster/test_faults.py tests/cluster/test_faults_of_installations.py --write-troubleshooting

writes it; without that option the same tests fail where it is not up to date.
"""

import re
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
- Who stops the others: the metric `whisper_operator_upgrades{state="failed"}` counts them, the operator's log has `The upgrade of
  WhisperEndpoint NAME in namespace NAMESPACE fails (REASON)`, and that endpoint's `Ready` says what is wrong, be it that its
  spec can't be carried out any more, and that no other endpoint is upgraded to the same.
- If the new version is at fault, put `server.version` or what else was changed back: that endpoint gets its old pods again, and
  nobody else is restarted. A version that mends it goes to it first, and to the others even if it can't be written any more. If
  it is something of that endpoint's own, mend it, or have the others pass: `kubectl annotate wep -n NAMESPACE NAME
  whisper-operator.io/paused=true`. Take that away again once it may be upgraded.

This table is made by the tests, which bring each of these faults about on a development cluster, read the message off, and
mend it: `pytest tests/cluster/test_faults.py tests/cluster/test_faults_of_installations.py --write-troubleshooting`.

| symptom | condition | reason | stalled | message | what to do |
| --- | --- | --- | --- | --- | --- |
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


def line(symptom: str, cure: str, resource: dict[str, Any], kind: str) -> str:
    """The table's line for an endpoint in that state, without the names that are made up anew each time."""
    found = condition(resource, kind)
    stalled = "yes" if condition(resource, "Stalled") else "no"
    message = _anonymous(found["message"], resource["metadata"]["namespace"])
    cells = (symptom, kind, found["reason"], stalled, message, cure)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _anonymous(message: str, namespace: str) -> str:
    replaced = message.replace(f"{namespace}.example.com", "whisper.example.com").replace(namespace, "asr")
    replaced = re.sub(r"whisper-[0-9a-f]{8,10}-[a-z0-9]{5}", "whisper-POD", replaced)
    replaced = re.sub(r"whisper-[0-9a-f]{8}\b", "whisper-HASH", replaced)
    replaced = re.sub(r"\bk8s1-[-a-z0-9]+", "k8s1-GROUP", replaced)
    return re.sub(r"\b0/\d+ nodes are available.*", "0/10 nodes are available: ...", replaced)


def write(lines: list[str]) -> None:
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(HEAD + "\n".join(lines) + "\n")


def lines() -> list[str]:
    """Those of the table as it is."""
    text = PAGE.read_text() if PAGE.exists() else ""
    return text.removeprefix(HEAD).splitlines()
