"""Whether the namespace's ResourceQuotas have room for an endpoint's pods."""

from collections.abc import Iterator

from whisper_operator.doctor.facts import Facts
from whisper_operator.doctor.finding import ERROR, WARNING, Finding, Gap, Result, Subject, command
from whisper_operator.doctor.views import View
from whisper_operator.kube.kinds import DEPLOYMENT, QUOTA
from whisper_operator.kube.objects import Raw
from whisper_operator.observed.children import Child
from whisper_operator.policy.amounts import ONE, RESOURCES, said, thousandths


def check(facts: Facts, view: View) -> Iterator[Result]:
    namespace, name = view.key
    if isinstance(facts.quotas, Gap):
        yield facts.quotas.finding("Quotas")
        return
    deployment = view.observed.only(DEPLOYMENT, name)
    if deployment is None or view.suspended:
        return
    for quota in facts.quotas:
        if quota["metadata"]["namespace"] == namespace and not _is_scoped(quota):
            yield from _against(quota, deployment, view)


def _against(quota: Raw, deployment: Child, view: View) -> Iterator[Result]:
    namespace, wanted = deployment.namespace, deployment.spec.get("replicas", 1)
    status = quota.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    missing = wanted - deployment.status.get("replicas", 0)
    surge = (deployment.spec.get("strategy") or {}).get("rollingUpdate", {}).get("maxSurge", 0)
    subject = Subject(QUOTA.name, quota["metadata"]["name"], namespace)
    show = command("kubectl", "describe", "resourcequota", "-n", namespace, quota["metadata"]["name"])
    needs = _needs(deployment)
    for resource in sorted(hard):
        need, free = needs.get(resource, 0), thousandths(hard[resource]) - thousandths(used.get(resource, 0))
        figures = (
            f"{resource}: {_said(resource, need)} a pod, and {_said(resource, free)} free of {hard[resource]}"
        )
        if missing > 0 and need * missing > free:
            yield Finding(
                ERROR,
                "QuotaTooSmall",
                subject,
                f"{view.subject} lacks {missing} of {wanted} replicas, for which the quota has no room ({figures}).",
                "Raise the quota, or ask for less in spec.resources or spec.replicas.",
                show,
            )
        elif missing == 0 and surge not in (0, "0", "0%") and need > free:
            yield Finding(
                WARNING,
                "QuotaWithoutSurge",
                subject,
                f"The quota has no room for one more pod of {view.subject} ({figures}): a change of it will not go out, as the "
                "new pod comes before the old one goes.",
                "Set another spec.rollout, which takes no pod more, or raise the quota.",
                show,
            )


def _needs(deployment: Child) -> dict[str, int]:
    """What a quota counts of one pod, by the quota's names, in thousandths."""
    found = {"pods": ONE, "count/pods": ONE}
    limits = deployment.takes.get("limits") or {}
    for part in ("requests", "limits"):
        # What is only limited is requested as well.
        for name, quantity in {**limits, **(deployment.takes.get(part) or {})}.items():
            found[f"{part}.{name}"] = thousandths(quantity)
            if (
                part == "requests" and name in RESOURCES
            ):  # which a quota may name without saying that requests are meant
                found[name] = thousandths(quantity)
    return found


def _said(resource: str, amount: int) -> str:
    return said(resource.removeprefix("requests.").removeprefix("limits."), amount)


def _is_scoped(quota: Raw) -> bool:
    """Whether it counts some pods only, which may or may not be these."""
    spec = quota.get("spec") or {}
    return bool(spec.get("scopes") or spec.get("scopeSelector"))
