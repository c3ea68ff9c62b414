"""A question about somebody's rights, which is asked by creating it."""

from typing import Any

from whisper_operator.kube.kinds import ACCESS_REVIEW, DEPLOYMENT, Kind

Account = tuple[str, str]
"""A ServiceAccount's namespace and name."""


def review(
    account: Account, verb: str, kind: Kind, *, subresource: str = "", name: str = "", namespace: str = ""
) -> dict[str, Any]:
    """A SubjectAccessReview; `name`: of the only object that it is about, "" for all; `namespace`: "" for all."""
    home, account_name = account
    attributes = {
        "verb": verb,
        "group": kind.group,
        "resource": kind.plural,
        "subresource": subresource,
        "name": name,
        "namespace": namespace,
    }
    return {
        "apiVersion": ACCESS_REVIEW.api_version,
        "kind": ACCESS_REVIEW.name,
        "metadata": {},
        "spec": {
            "user": f"system:serviceaccount:{home}:{account_name}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{home}", "system:authenticated"],
            "resourceAttributes": attributes,
        },
    }


def of_installation(account: Account) -> dict[str, Any]:
    """Whether it has the rights of an installation for the whole cluster."""
    return review(account, "patch", DEPLOYMENT)
