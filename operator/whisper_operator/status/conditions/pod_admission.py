"""Why the API server takes no pods from the Deployment: which rule of the namespace, and which field of spec it is about."""

import re

from whisper_operator.status.condition import Fault

LIMIT_RANGE = re.compile(
    r"\b(min|max)imum ([-a-z]+) usage per (?:Container|Pod) is|\b([-a-z]+) max limit to request ratio"
)
"""How the API server says that a pod is outside of what a LimitRange allows."""


def refused(namespace: str, deployment: str, words: str) -> Fault:
    """What to do about the API server's words."""
    where = f"Deployment {namespace}/{deployment} can't make pods: "
    if "exceeded quota" in words:
        found = re.search(r"exceeded quota: ([^,]+)", words)
        name = f" {found[1]}" if found else ""
        return Fault(
            "QuotaExceeded",
            f"{where}the namespace's ResourceQuota{name} has no room: raise it, or ask for less in spec.resources or "
            f"spec.replicas. The API server says: {words}",
        )
    if found := re.search(r"failed quota: ([^:]+): must specify (.+)", words):
        fields = re.findall(r"\b(?:requests|limits)\.[-a-z]+", found[2])
        named = " and ".join(f"spec.resources.{each}" for each in dict.fromkeys(fields)) or found[2]
        return Fault(
            "PodsRefused",
            f"{where}the namespace's ResourceQuota {found[1]} counts what they don't name: set {named}, or have the quota leave "
            f"it out. The API server says: {words}",
        )
    if LIMIT_RANGE.search(words):
        fields = [
            f"spec.resources.{'requests' if each[1] == 'min' else 'limits'}.{each[2] or each[3]}"
            for each in LIMIT_RANGE.finditer(words)
        ]
        named = " and ".join(dict.fromkeys(fields))
        return Fault(
            "PodsRefused",
            f"{where}a LimitRange of namespace {namespace} forbids what they ask for: change {named}, or have the range "
            f"changed (kubectl describe limitrange -n {namespace}). The API server says: {words}",
        )
    if found := re.search(r'serviceaccount "([^"]+)" not found', words):
        return Fault(
            "ServiceAccountMissing",
            f"{where}there is no ServiceAccount {found[1]} in namespace {namespace}: create it, or correct "
            "spec.scheduling.serviceAccountName.",
        )
    if found := re.search(r"no PriorityClass with name (\S+) was found", words):
        return Fault(
            "PriorityClassMissing",
            f"{where}the cluster has no PriorityClass {found[1]}: create it, or correct spec.scheduling.priorityClassName.",
        )
    return Fault("PodsRefused", f"{where}the API server refuses them: {words}")
