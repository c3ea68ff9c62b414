"""What doctor says of installations that look after the same."""

from whisper_operator.config import Settings
from whisper_operator.leader.installations import CLAIM, LEADER

from tests.unit.diagnosing import (
    FORBIDDEN,
    NOW,
    deployment,
    facts,
    found,
    installation,
    raw,
    well,
)
from tests.unit.making import Body


def lease(
    namespace: str, *, name: str = LEADER, scope: str = "", made: str = "10", holder: str = "pod"
) -> Body:
    annotations = {"whisper-operator.io/looks-after": scope} if scope else {}
    return raw(
        name,
        namespace,
        metadata={"annotations": annotations, "creationTimestamp": f"2026-03-01T{made}:00:00Z"},
        spec={"holderIdentity": holder, "renewTime": NOW.strftime("%Y-%m-%dT%H:%M:%S.%fZ")},
    )


def test_two_installations_for_the_whole_cluster() -> None:
    leases = (lease("one", scope="*", made="11"), lease("two", scope="*", made="10"))
    finding = found(facts(installations=(), leases=leases))["InstallationsOverlap"]
    assert finding.problem == (
        "Two installations, in namespaces one and two, look after the whole cluster. The one in namespace two has the cluster, "
        "and the other writes nothing there."
    )
    assert finding.command == "kubectl delete deployment -n one whisper-operator"
    made_up = facts(installations=(), leases=leases, made_up=frozenset({"one"}))
    assert "InstallationsOverlap" not in found(made_up), "a Lease that somebody made up"
    dead = {**leases[1], "spec": {**leases[1]["spec"], "renewTime": "2026-03-01T11:00:00.0Z"}}
    second = installation(deployment=deployment("two"), settings=Settings())
    cut_off = found(facts(installations=(second,), leases=(leases[0], dead)))["InstallationsOverlap"]
    assert "The one in namespace one has the cluster" in cut_off.problem, "the older gives no sign of life"
    assert cut_off.command == "kubectl delete deployment -n two whisper-operator"
    old = {**leases[0], "spec": {**leases[0]["spec"], "renewTime": "2026-03-01T11:00:00.0Z"}}
    assert "InstallationsOverlap" not in found(facts(installations=(), leases=(old, leases[1]))), (
        "of one that is gone"
    )


def test_installations_for_some_namespaces() -> None:
    leases = (
        lease("one", scope="asr,x"),
        lease("two", scope="asr"),
        lease("asr", name=CLAIM, holder="two"),
        lease("all", scope="*"),
    )
    finding = found(facts(installations=(), leases=leases))["InstallationsOverlap"]
    assert (
        "in namespaces one and two, look after namespace asr. The one in namespace two has namespace asr"
        in finding.problem
    )
    apart = (lease("one", scope="x"), lease("two", scope="asr"), lease("all", scope="*"))
    assert "No two installations look after the same" in well(facts(installations=(), leases=apart))


def test_installations_without_leases_overlap_by_their_configuration() -> None:
    two = tuple(installation(deployment=deployment(each), settings=Settings()) for each in ("one", "two"))
    assert "they undo each other's work" in found(facts(installations=two))["InstallationsOverlap"].problem
    unread = found(facts(installations=two, leases=FORBIDDEN))
    assert "Other installations: not checked" in unread["NotPermitted"].problem
