"""What doctor says of endpoints: their conditions, and whether anybody looks after them."""

from dataclasses import replace
from typing import Any

from whisper_operator.config import Settings
from whisper_operator.config import parse as settings_of
from whisper_operator.doctor.facts import Answer, File
from whisper_operator.doctor.finding import Gap
from whisper_operator.kube.kinds import (
    DEPLOYMENT,
    INGRESS,
    MANAGED_CERTIFICATE,
    POD,
    REPLICA_SET,
    SERVICE,
    Kind,
)
from whisper_operator.policy.allowed import CLOSED
from whisper_operator.policy.rules import VIOLATION, Policy
from whisper_operator.status.condition import STOPS_OTHERS

from tests.unit.diagnosing import (
    ADDRESS,
    CPU,
    EARLIER,
    FORBIDDEN,
    HOST,
    NODE,
    READY,
    RUNS,
    child,
    condition,
    deployed,
    deployment,
    endpoint,
    facts,
    found,
    installation,
    judged,
    on_gpu,
    public,
    served,
    well,
)


def test_an_endpoint_that_serves() -> None:
    given = facts(public(), objects=served())
    assert found(given, {HOST: Answer((ADDRESS,))}) == {}
    words = well(given, {HOST: Answer((ADDRESS,))})
    assert f"{HOST} resolves to {ADDRESS}" in words
    assert f"ManagedCertificate asr/whisper-x for {HOST} is active" in words
    assert "WhisperEndpoint asr/whisper is ready. The current spec is served." in words
    waits = condition("Ready", "True", "UpgradePending", "The current spec is served. An upgrade waits.")
    assert "An upgrade waits." in well(facts(endpoint(conditions=(waits,), **CPU), objects=RUNS))
    # Where the operator has said nothing, it is what it would say.
    assert "is ready. The current spec is served, with all it asks for." in well(
        facts(endpoint(**CPU), objects=RUNS)
    )


def test_what_conditions_say_is_said_as_the_operator_would_say_it_now() -> None:
    """Also while the operator is down, and its status of yesterday."""
    replica_set = child(
        REPLICA_SET,
        name="whisper-1",
        metadata={
            "ownerReferences": [
                {"kind": "Deployment", "name": "whisper", "uid": "deployments-whisper", "controller": True}
            ]
        },
    )
    container = {"name": "server", "ready": False, "state": {"waiting": {"reason": "InvalidImageName"}}}
    pod = child(
        POD,
        name="whisper-1-a",
        metadata={
            "ownerReferences": [
                {
                    "kind": "ReplicaSet",
                    "name": "whisper-1",
                    "uid": "replicasets-whisper-1",
                    "controller": True,
                }
            ]
        },
        spec={"containers": [{"name": "server", "image": "x y"}]},
        status={"phase": "Pending", "containerStatuses": [container]},
    )
    objects = {**RUNS, DEPLOYMENT: (deployed(there=0),), REPLICA_SET: (replica_set,), POD: (pod,)}
    given = facts(endpoint(conditions=(READY,), **CPU), objects=objects)
    assert found(given)["ImagePullFailed"].severity == "error"
    # With fewer rights, it is what the operator has said.
    unread = facts(endpoint(conditions=(READY,), **CPU), objects={**objects, POD: FORBIDDEN})
    assert "ImagePullFailed" not in found(unread)
    assert "is ready. The current spec is served." in well(unread)


def test_who_stops_upgrades_is_named_and_who_waits_is_counted() -> None:
    blamed = (
        condition("Ready", "False", "ProgressDeadlineExceeded", f"It does not start.{STOPS_OTHERS}"),
        condition("Stalled", "True", "ProgressDeadlineExceeded"),
    )
    waits = (condition("Ready", "True", "UpgradePending", "The current spec is served. An upgrade waits."),)
    others = tuple(endpoint(name, conditions=waits, **CPU) for name in ("a", "b"))
    running: dict[Kind, Any] = {
        DEPLOYMENT: tuple(deployed(owner=name) for name in ("whisper", "a", "b")),
        SERVICE: tuple(child(SERVICE, name) for name in ("whisper", "a", "b")),
    }
    given = found(facts(endpoint(conditions=blamed, **CPU), *others, objects=running))
    assert set(given) == {"ProgressDeadlineExceeded", "UpgradesStopped"}
    stops = given["UpgradesStopped"]
    assert (stops.severity, str(stops.subject)) == ("error", "WhisperEndpoint asr/whisper")
    assert stops.problem.startswith("It fails in an upgrade by the installation, and until it serves again")
    assert stops.problem.endswith(" Of the endpoints that were looked at, 2 wait for an upgrade.")
    assert given["ProgressDeadlineExceeded"].problem == "It does not start."
    alone = found(facts(endpoint(conditions=blamed, **CPU), objects=RUNS))["UpgradesStopped"]
    assert alone.problem == STOPS_OTHERS.strip()
    assert "UpgradesStopped" not in found(facts(*others, objects=running))
    changed = endpoint(conditions=blamed, generation=2, **CPU)
    assert "UpgradesStopped" not in found(facts(changed, objects=RUNS)), "its new spec stops nobody"


def test_a_policy_that_can_t_be_used_is_said_once() -> None:
    closed = (condition("Ready", "False", VIOLATION, CLOSED), condition("Stalled", "True", VIOLATION))
    many = [endpoint(name, conditions=closed, **CPU) for name in ("a", "b")]
    unread = installation(policy=None, policy_file=File("policy.yaml", "p", FORBIDDEN))
    given = found(facts(*many, installations=(unread,)))
    assert set(given) == {"NotPermitted", "PolicyInvalid"}
    assert (given["PolicyInvalid"].severity, given["PolicyInvalid"].problem) == ("error", CLOSED)
    wrong = installation(
        policy=None, policy_file=File("policy.yaml", "p", "?"), faults={"policy.yaml": "unknown field"}
    )
    seen = found(facts(*many, installations=(wrong,)))
    assert (set(seen), "unknown field" in seen["PolicyInvalid"].problem) == ({"PolicyInvalid"}, True)


def test_what_only_the_operator_knows_is_told_from_the_status() -> None:
    stalled = (
        condition("Ready", "False", "NameConflict", "services whisper is somebody's."),
        condition("Stalled", "True", "NameConflict"),
    )
    finding = found(facts(endpoint(conditions=stalled, **CPU), objects=RUNS))["NameConflict"]
    assert (finding.severity, finding.problem) == ("error", "services whisper is somebody's.")
    passing = (condition("Ready", "False", "ApplyDelayed", "503"),)
    assert (
        found(facts(endpoint(conditions=passing, **CPU), objects=RUNS))["ApplyDelayed"].severity == "warning"
    )


def test_what_the_installation_does_not_allow_or_have() -> None:
    refused = facts(
        endpoint(conditions=(READY,), image="other.example.com/x", **CPU),
        objects=RUNS,
        installations=(
            installation(policy=Policy({"everywhere": {"registries": ["registry.example.com/a"]}})),
        ),
    )
    assert "does not allow this in namespace asr" in found(refused)["PolicyViolation"].problem
    unset = facts(
        endpoint(conditions=(READY,), **CPU), objects=RUNS, installations=(installation(settings=Settings()),)
    )
    assert "make images" in found(unset)["ImageNotConfigured"].problem


def test_a_deployment_that_somebody_has_called_so_decides_nothing_for_others() -> None:
    called_so = installation(
        deployment=deployment("aaa"),
        policy=Policy({"everywhere": {"hosts": []}}),
        lacking=("patch deployments.apps",),
    )
    given = facts(public(), objects=served(), installations=(called_so, installation()))
    assert set(found(given, {HOST: Answer((ADDRESS,))})) == {"OperatorLacksRights"}


def test_an_endpoint_that_nobody_looks_after() -> None:
    elsewhere = installation(settings=settings_of({"namespaces": ["other"]}))
    finding = found(facts(endpoint(**CPU), installations=(elsewhere,)))["EndpointNotLookedAfter"]
    assert (
        "No installation looks after namespace asr (there is one in whisper-operator, for others)"
        in finding.problem
    )
    alone = found(facts(on_gpu(), nodes=(NODE,), installations=(elsewhere,)))
    assert set(alone) == {"EndpointNotLookedAfter"}, "no installation's table of GPUs holds there"
    unsure = facts(endpoint(**CPU), installations=(elsewhere,), everywhere=False)
    assert "EndpointNotLookedAfter" not in found(unsure), "there may be another that can't be seen"


def test_a_change_that_was_not_taken_up() -> None:
    new = endpoint(**CPU)
    assert (
        "has no status: the operator has not looked at it since"
        in found(facts(new))["EndpointNotTakenUp"].problem
    )
    changed = endpoint(conditions=(READY,), generation=2, **CPU)
    finding = found(facts(changed, objects=RUNS))["EndpointNotTakenUp"]
    assert "was changed, and its status is of the spec before" in finding.problem
    changed["metadata"]["managedFields"] = [
        {"time": EARLIER},
        {"time": "2026-03-01T11:59:50Z"},
        {"time": EARLIER, "subresource": "status"},
    ]
    assert "EndpointNotTakenUp" not in found(facts(changed, objects=RUNS)), "it has had ten seconds"


def test_an_endpoint_that_is_being_deleted() -> None:
    going = endpoint(conditions=(condition("Ready", "False", "X", "x"),), **CPU)
    going["metadata"] |= {"deletionTimestamp": "2026-03-01T11:30:00Z", "finalizers": ["example.com/hold"]}
    finding = found(facts(going))["EndpointDeleting"]
    assert "waits for example.com/hold, which is none of the operator's" in finding.problem
    going["metadata"]["deletionTimestamp"] = "2026-03-01T11:59:00Z"
    assert found(facts(going)) == {}
    asked_for = found(facts(going, name="whisper"))["EndpointDeleting"]
    assert asked_for.problem.startswith("It was deleted at 2026-03-01T11:59:00Z, and is still there.")


def test_a_suspended_endpoint_needs_nothing() -> None:
    asleep = endpoint(conditions=(READY,), host=HOST, suspend=True, autoscaling={"max": 3})
    objects = {**served(), DEPLOYMENT: (deployed(wanted=0),)}
    objects[MANAGED_CERTIFICATE][0]["status"] = {"certificateStatus": "RenewalFailed"}
    assert found(facts(asleep, objects=objects)) == {}
    objects[MANAGED_CERTIFICATE][0]["status"] = {"certificateStatus": "Provisioning"}
    assert found(facts(asleep, objects=objects)) == {}


def test_an_object_that_nobody_understands_stops_no_other_from_being_looked_at() -> None:
    objects = served()
    strange = child(MANAGED_CERTIFICATE, "other", spec={"domains": [HOST]}, status={"domainStatus": ["?"]})
    objects[MANAGED_CERTIFICATE] += (strange,)
    confused = deployed(owner="confused")
    confused["status"]["availableReplicas"] = "many"
    objects[DEPLOYMENT] += (deployed(owner="other"), confused)
    objects[POD] = (child(POD, name="strange", metadata={"resourceVersion": "?"}),)
    other = endpoint("other", conditions=(READY,), host="other.example.com", **CPU)
    hopeless = endpoint("hopeless", **CPU)
    hopeless["status"] = "none"
    report = judged(facts(other, hopeless, endpoint("confused", **CPU), public(), objects=objects))
    failed = [each for each in report.findings if each.code == "CheckFailed"]
    names = ("other", "hopeless", "confused")
    assert {str(each.subject) for each in failed} == {
        "Pod asr/strange",
        *(f"WhisperEndpoint asr/{name}" for name in names),
    }
    assert {each.severity for each in failed} == {"not-checked"}
    assert "DNSRecordMissing" in {each.code for each in report.findings if each.subject.name == HOST}


def test_what_concerns_many_endpoints_is_said_once() -> None:
    many = [endpoint(f"w{number}", conditions=(READY,)) for number in range(5)]
    objects: dict[Kind, Any] = {
        DEPLOYMENT: tuple(deployed(owner=each["metadata"]["name"]) for each in many),
        SERVICE: tuple(child(SERVICE, each["metadata"]["name"]) for each in many),
    }
    codes = [each.code for each in judged(facts(*many, objects=objects)).findings]
    assert codes == ["GPUNodesMissing"]


def test_what_could_not_be_read_of_endpoints_is_said_once() -> None:
    hidden, failed = Gap("list ingresses", ""), Gap("list pods", "list pods: it took longer than 45 s")
    objects = {**served(), INGRESS: hidden, MANAGED_CERTIFICATE: Gap("list certificates", ""), POD: failed}
    given = found(facts(public(), endpoint("other", conditions=(READY,), **CPU), objects=objects))
    assert given["NotPermitted"].problem == (
        "What endpoints are made of: not checked: needs the right to list ingresses, list certificates"
    )
    assert given["NotReadable"].problem.endswith("not checked: list pods: it took longer than 45 s")
    assert found(facts(objects=objects)) == {}, "there are none"


def test_endpoints_that_can_t_be_listed() -> None:
    assert found(replace(facts(), endpoints=FORBIDDEN))["NotPermitted"].problem == (
        "Endpoints: not checked: needs the right to list things in the whole cluster"
    )
