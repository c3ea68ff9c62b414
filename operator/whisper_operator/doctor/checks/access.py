"""Whether the operator has the rights that it needs."""

from collections.abc import Iterator

from whisper_operator.doctor.facts import Facts
from whisper_operator.doctor.finding import ERROR, Finding, Gap, Result, Subject, Well
from whisper_operator.doctor.rights import account_of


def check(facts: Facts) -> Iterator[Result]:
    for each in () if isinstance(facts.installations, Gap) else facts.installations:
        namespace, name = account_of(each.deployment)
        account = Subject("ServiceAccount", name, namespace)
        if isinstance(each.lacking, Gap):
            yield each.lacking.finding("Operator's rights", account)
        elif each.lacking:
            yield Finding(
                ERROR,
                "OperatorLacksRights",
                account,
                f"The operator may not {'; '.join(each.lacking)}. What takes these rights is not done, or not noticed; "
                "without those for Leases, nothing is.",
                "Apply the installation anew: deploy/base/rbac.yaml gives them. In an installation for some namespaces, what "
                "deploy/overlays/namespaced/rights.yaml has is needed in each of them. FOLDER is your copy of the overlay:",
                "kubectl apply -k FOLDER",
            )
        else:
            yield Well(f"{account} has the rights that the operator needs")
