"""What the operator has no right to read: the rest goes on, but nobody should take old news for new."""

from collections.abc import Iterable

from whisper_operator.kube.kinds import CHILDREN, WITNESSES, Kind
from whisper_operator.observed.children import Observed
from whisper_operator.status.condition import Fault


def fault(observed: Observed) -> Fault | None:
    """Of children that are there; the wish for another is refused by the API server, which says so itself."""
    there = {child.kind: child.namespace for child in observed.children.values()}
    kinds = [kind for kind in CHILDREN if kind in there and kind in observed.unreadable]
    if not kinds:
        return None
    return Fault(
        "AccessDenied",
        f"The operator may not read {_named(kinds)} in namespace {there[kinds[0]]} any more, and can't tell whether they are as "
        "they should be: give its role the verbs get, list and watch for them, as deploy/base/rbac.yaml does. The API server "
        f"says: {observed.unreadable[kinds[0]]}",
    )


def notes(observed: Observed) -> list[str]:
    """Sentences about what only tells of an endpoint."""
    kinds = [kind for kind in WITNESSES if kind in observed.unreadable]
    if not kinds:
        return []
    return [
        f"Mind that the operator may not read {_named(kinds)} there: should a pod fail, it can't say why."
    ]


def _named(kinds: Iterable[Kind]) -> str:
    return ", ".join(kind.qualified for kind in kinds)
