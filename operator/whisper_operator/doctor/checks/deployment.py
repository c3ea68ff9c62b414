"""The operator's own Deployment: whether it runs, which version, and what its log complains of."""

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from whisper_operator import __version__
from whisper_operator.doctor.facts import OPERATOR, Facts, Installation
from whisper_operator.doctor.finding import ERROR, WARNING, Finding, Gap, Result, Subject, Well, command
from whisper_operator.kube.kinds import DEPLOYMENT
from whisper_operator.kube.objects import condition
from whisper_operator.leader.installations import SELECTOR
from whisper_operator.observed.foreign_words import shortened
from whisper_operator.observed.pods import Pod

COMPLAINTS = ("WARNING", "ERROR", "CRITICAL")
SHOWN = 3
"""Complaints of a log, the newest."""
RECENT = timedelta(hours=1)
"""How long a complaint counts: what it was about may be over."""


def check(facts: Facts) -> Iterator[Result]:
    found = facts.installations
    if isinstance(found, Gap):
        yield found.finding("Operator", Subject(DEPLOYMENT.name, OPERATOR, OPERATOR))
        return
    if not found:
        where = (
            "in the cluster"
            if facts.everywhere
            else f"in namespace {OPERATOR}, and you may not look into all others"
        )
        yield Finding(
            ERROR if facts.everywhere else WARNING,
            "OperatorMissing",
            Subject(DEPLOYMENT.name, OPERATOR, "" if facts.everywhere else OPERATOR),
            f"There is no Deployment {OPERATOR} {where}: endpoints are what they were, and no change is carried out.",
            "Install the operator.",
            "kubectl apply -k FOLDER",
        )
    for each in found:
        yield from _one(each, facts.now)


def _one(installation: Installation, now: datetime) -> Iterator[Result]:
    status, spec = installation.deployment.get("status") or {}, installation.deployment["spec"]
    image = str(spec["template"]["spec"]["containers"][0].get("image"))
    describe = command(
        "kubectl",
        "describe",
        "pods",
        "-n",
        installation.namespace,
        "-l",
        SELECTOR,
    )
    if spec.get("replicas", 1) == 0:
        scale = ("kubectl", "scale", "deployment", "-n", installation.namespace, OPERATOR, "--replicas=2")
        yield Finding(
            ERROR,
            "OperatorUnavailable",
            installation.subject,
            "The operator is scaled to nothing: no change is carried out.",
            "Scale it up.",
            command(*scale),
        )
    elif not status.get("availableReplicas"):
        yield Finding(
            ERROR,
            "OperatorUnavailable",
            installation.subject,
            f"The operator does not run: no change is carried out. {_why(installation)}".strip(),
            "See its pods and their logs.",
            describe,
        )
    elif condition(status, "Progressing").get("reason") == "ProgressDeadlineExceeded":
        yield Finding(
            WARNING,
            "OperatorUnavailable",
            installation.subject,
            f"The operator runs, but its last change is stuck. {_why(installation)}".strip(),
            "See its pods and their logs.",
            describe,
        )
    else:
        yield Well(f"{installation.subject} runs {image}")
    yield from _version(installation, image)
    yield from _log(installation, now)


def _why(installation: Installation) -> str:
    """What its pods say."""
    failure = condition(installation.deployment.get("status") or {}, "ReplicaFailure")
    if failure.get("status") == "True":
        return f"Its pods are refused: {shortened(str(failure.get('message')))}"
    if isinstance(installation.pods, Gap):
        return ""
    for pod in map(Pod.of, installation.pods):
        if pod.ready or pod.trouble is None:
            continue
        trouble = pod.trouble
        about = f" {trouble.about}" if trouble.about else ""
        words = trouble.words or _last_words(installation)
        words = f": {words}" if words else ""
        return f"Pod {pod.name}: {WORDS.get(trouble.what, trouble.what)}{about}{words}."
    return "" if installation.pods else "It has no pods."


def _last_words(installation: Installation) -> str:
    """What an operator that could not start has printed, which is no line of a log yet."""
    if isinstance(installation.log, Gap):
        return ""
    lines = [each for each in installation.log.splitlines() if each.strip()]
    return shortened(lines[-1]) if lines and not lines[-1].startswith("{") else ""


WORDS = {
    "ImagePull": "can't pull the image",
    "OutOfMemory": "was killed for using too much memory",
    "Crash": "ended with exit status",
    "NotCreated": "the node can't make its container:",
    "Unschedulable": "waits for a node",
    "Failed": "failed:",
}


def _version(installation: Installation, image: str) -> Iterator[Result]:
    found = re.search(r":v?(\d+\.\d+\.\d+)-operator(@|$)", image)
    if found and found[1] != __version__:
        yield Finding(
            WARNING,
            "OperatorVersionDiffers",
            installation.subject,
            f"The operator is of version {found[1]}, and this command of {__version__}: what is said here of the CRD, the "
            "rights and the configuration is true of the latter.",
            "Use the command of the operator's version; its image has it.",
        )


def _log(installation: Installation, now: datetime) -> Iterator[Result]:
    if isinstance(installation.log, Gap):
        yield installation.log.finding("Operator's log", installation.subject)
        return
    said: dict[str, str] = {}
    for line in installation.log.splitlines():
        try:
            entry = json.loads(line)
            if entry["level"] in COMPLAINTS and now - datetime.fromisoformat(entry["time"]) < RECENT:
                said.pop(str(entry["message"]), None)  # the last time counts
                said[str(entry["message"])] = str(entry["level"])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # such as a line that was cut
    for message, level in list(said.items())[-SHOWN:]:
        yield Finding(
            WARNING,
            "OperatorComplains",
            installation.subject,
            f"Its log says ({level.lower()}): {shortened(message)}",
        )
    if not said and installation.log:
        yield Well(f"The log of {installation.subject} has no complaints of the last hour")
