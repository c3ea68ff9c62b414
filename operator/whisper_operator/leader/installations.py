"""Which installations there are beside one's own, and what they look after. Pure: it is told what a list of Leases has.

An installation that looks after some namespaces has a Lease in each of them, its claim, and writes only where it has that; who
looks after the whole cluster leaves those to it. A Lease in a namespace speaks of that namespace alone: whoever may write there
can't keep an installation from others. Of two that look after the whole cluster, the one whose Lease was made first goes on; who
has such a Lease and not the rights for it is none.
"""

from collections.abc import Callable, Collection, Iterable

from whisper_operator.kube.kinds import FIELD_MANAGER, GROUP, NAME_LABEL
from whisper_operator.kube.objects import Raw

LEADER = "whisper-operator-leader"
"""The Lease in an installation's own namespace, which its replicas take turns to hold."""
CLAIM = "whisper-operator-endpoints"
"""The Lease in a namespace that is looked after by an installation for some: its holder is that installation's namespace."""
SCOPE_ANNOTATION = f"{GROUP}/looks-after"
"""On LEADER: the namespaces, or ALL."""
ACCOUNT_ANNOTATION = f"{GROUP}/service-account"
"""On LEADER: the name of the ServiceAccount that the installation acts as, in its own namespace."""
ALL = "*"
MARKS = {NAME_LABEL: FIELD_MANAGER}
SELECTOR = f"{NAME_LABEL}={FIELD_MANAGER}"
"""All Leases of all installations."""

THERE_SECONDS = 300.0
"""How long an installation counts as there without a sign of life, by our own clock: another is no stand-in for it, and may have
another configuration, so that it is in no hurry."""


class Installations:
    """The others, as the lists of their Leases show them."""

    def __init__(self, own: str) -> None:
        """`own`: one's own namespace."""
        self._own = own
        self._leases: dict[str, Raw] = {}
        self._changed: dict[str, float] = {}
        """By uid."""

    def see(self, leases: Iterable[Raw], now: float) -> None:
        """Take in a list of all Leases of all installations, of which the others' claims and rivals are kept."""
        kept = [lease for lease in leases if is_rival(lease, self._own) or self._is_claim(lease)]
        before, self._leases = self._leases, {lease["metadata"]["uid"]: lease for lease in kept}
        for uid, lease in self._leases.items():
            if uid not in before or before[uid].get("spec") != lease.get("spec"):
                self._changed[uid] = now
        self._changed = {uid: self._changed[uid] for uid in self._leases}

    def claims(self, now: float) -> dict[str, str]:
        """The namespaces that another installation has claimed, and its name."""
        found = [lease for lease in self._there(now) if lease["metadata"]["name"] == CLAIM]
        return {each["metadata"]["namespace"]: holder(each) for each in found}

    def rivals(self, now: float) -> list[Raw]:
        """The Leases that say of themselves that they are another installation's for the whole cluster."""
        return [lease for lease in self._there(now) if is_rival(lease, self._own)]

    def senior(self, own: Raw, now: float, is_true: Callable[[Raw], bool] = lambda _: True) -> str | None:
        """Another installation for the whole cluster that was there before us. `is_true`: of a rival, whether it is one."""
        older = [lease for lease in self.rivals(now) if age(lease) < age(own) and is_true(lease)]
        return min(older, key=age)["metadata"]["namespace"] if older else None

    def juniors(self, own: Raw, now: float, is_true: Callable[[Raw], bool] = lambda _: True) -> list[str]:
        """Those that will stop for us."""
        younger = [lease for lease in self.rivals(now) if age(lease) > age(own) and is_true(lease)]
        return [str(lease["metadata"]["namespace"]) for lease in younger]

    def _there(self, now: float) -> list[Raw]:
        return [lease for uid, lease in self._leases.items() if now < self._changed[uid] + THERE_SECONDS]

    def _is_claim(self, lease: Raw) -> bool:
        return lease["metadata"]["name"] == CLAIM and holder(lease) not in ("", self._own)


def is_rival(lease: Raw, own: str) -> bool:
    """Whether it says of itself that it is another installation's for the whole cluster."""
    metadata = lease["metadata"]
    says_so = (metadata.get("annotations") or {}).get(SCOPE_ANNOTATION) == ALL
    return says_so and metadata["name"] == LEADER and metadata["namespace"] != own


def annotations(namespaces: Collection[str], service_account: str) -> dict[str, str]:
    """What an installation's own LEADER says of it."""
    return {SCOPE_ANNOTATION: ",".join(namespaces) or ALL, ACCOUNT_ANNOTATION: service_account}


def account(lease: Raw) -> tuple[str, str]:
    """Namespace and name of the ServiceAccount that an installation says it acts as."""
    metadata = lease["metadata"]
    name = (metadata.get("annotations") or {}).get(ACCOUNT_ANNOTATION) or FIELD_MANAGER
    return metadata["namespace"], name


def holder(lease: Raw) -> str:
    return str((lease.get("spec") or {}).get("holderIdentity") or "")


def age(lease: Raw) -> tuple[str, str]:
    """Older ones come first; the API server's clock counts in seconds."""
    return lease["metadata"]["creationTimestamp"], lease["metadata"]["uid"]
