"""What doctor says of endpoints and of what they need: each check with something wrong, and with nothing."""

from dataclasses import replace
from typing import Any

import pytest
from whisper_operator.config import Settings
from whisper_operator.config import parse as settings_of
from whisper_operator.doctor.facts import Answer, Facts
from whisper_operator.doctor.finding import Gap
from whisper_operator.kube.kinds import (
    AUTOSCALER,
    DEPLOYMENT,
    INGRESS,
    MANAGED_CERTIFICATE,
    POD,
    REPLICA_SET,
    SERVICE,
    Kind,
)
from whisper_operator.policy.rules import Policy

from tests.unit.diagnosing import (
    ADDRESS,
    EARLIER,
    FORBIDDEN,
    HOST,
    child,
    condition,
    endpoint,
    facts,
    found,
    installation,
    judged,
    raw,
    well,
)
from tests.unit.making import Body

READY = condition("Ready", "True", "Ready", "The current spec is served.")
CPU: Body = {"device": "cpu"}
T4 = {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}


def served(
    *, address: str = ADDRESS, ingress_class: str = "gce", hosts: tuple[str, ...] = (HOST,)
) -> dict[Kind, Any]:
    """The children of an endpoint that serves on a host."""
    entry = {"ip": address} if address.replace(".", "").isdigit() or ":" in address else {"hostname": address}
    ingress = child(
        INGRESS,
        metadata={"annotations": {"kubernetes.io/ingress.class": ingress_class}},
        spec={"rules": [{"host": host} for host in hosts]},
        status={"loadBalancer": {"ingress": [entry]}},
    )
    certificate = child(
        MANAGED_CERTIFICATE,
        name="whisper-x",
        spec={"domains": [HOST]},
        status={"certificateStatus": "Active"},
    )
    return {
        DEPLOYMENT: (deployed(),),
        SERVICE: (child(SERVICE),),
        INGRESS: (ingress,),
        MANAGED_CERTIFICATE: (certificate,),
    }


def deployed(*, wanted: int = 1, there: int | None = None, owner: str = "whisper", **spec: Any) -> Body:
    count = wanted if there is None else there
    status = {
        "replicas": count,
        "updatedReplicas": count,
        "availableReplicas": count,
        "observedGeneration": 1,
    }
    takes = {"limits": {"nvidia.com/gpu": "1", "memory": "24Gi"}, "requests": {"cpu": "4", "memory": "24Gi"}}
    template = {"spec": {"containers": [{"name": "server", "resources": takes}]}}
    return child(DEPLOYMENT, owner, spec={"replicas": wanted, "template": template, **spec}, status=status)


def public(**spec: Any) -> Body:
    return endpoint(conditions=(READY,), host=HOST, **CPU, **spec)


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


def dns(answer: Answer, given: Facts | None = None) -> Any:
    (finding,) = judged(given or facts(public(), objects=served()), {HOST: answer}).findings
    return finding


def test_a_host_without_a_record() -> None:
    finding = dns(Answer())
    assert (finding.severity, finding.code) == ("error", "DNSRecordMissing")
    assert finding.problem == (
        f"DNS has no record for {HOST}, and the load balancer of WhisperEndpoint asr/whisper has {ADDRESS}: nobody gets there by "
        "that name."
    )
    assert finding.command == (
        f"gcloud dns record-sets create {HOST}. --zone=ZONE --type=A --ttl=300 --rrdatas={ADDRESS}"
    )


def test_a_host_that_leads_elsewhere() -> None:
    finding = dns(Answer(("198.51.100.1",)))
    assert (finding.severity, finding.code) == ("error", "DNSPointsElsewhere")
    assert f"{HOST} resolves to 198.51.100.1, and the load balancer of" in finding.problem
    assert finding.problem.endswith("requests go elsewhere.")
    assert finding.command.startswith("gcloud dns record-sets update")
    assert "some of the requests go elsewhere" in dns(Answer((ADDRESS, "198.51.100.1"))).problem


def test_a_host_whose_ipv6_leads_elsewhere() -> None:
    finding = dns(Answer((ADDRESS, "2001:db8::1")))
    assert (finding.code, "to 2001:db8::1 for IPv6" in finding.problem) == ("DNSIPv6Elsewhere", True)
    assert finding.command == f"gcloud dns record-sets delete {HOST}. --zone=ZONE --type=AAAA"
    # A network without IPv4 makes up an address for each of IPv4.
    made_up = {HOST: Answer(("64:ff9b::cb00:710a", ADDRESS))}
    assert found(facts(public(), objects=served()), made_up) == {}


def test_a_resolver_that_does_not_answer_proves_nothing() -> None:
    finding = dns(Answer(failure="Temporary failure in name resolution"))
    assert (finding.severity, finding.code) == ("not-checked", "DNSNotChecked")
    assert "Temporary failure" in finding.problem


def test_a_load_balancer_with_a_name_in_place_of_an_address() -> None:
    given = facts(
        public(ingress={"class": "traefik"}),
        objects=served(address="lb.example.net", ingress_class="traefik"),
    )
    right = {"lb.example.net": Answer(("192.0.2.1",)), HOST: Answer(("192.0.2.1",))}
    assert found(given, right) == {}
    finding = found(given, {**right, HOST: Answer()})["DNSRecordMissing"]
    assert "--type=CNAME" in finding.command
    assert "--rrdatas=lb.example.net." in finding.command


def test_dns_that_may_be_right_is_a_warning_where_google_makes_no_certificate() -> None:
    proxied = facts(public(ingress={"tls": {"mode": "none"}}), objects=served())
    finding = dns(Answer(("198.51.100.1",)), proxied)
    assert (finding.severity, "a proxy or a content delivery network" in finding.problem) == ("warning", True)
    internal = facts(public(ingress={"class": "gce-internal"}), objects=served(ingress_class="gce-internal"))
    assert "names of the VPC network may be unknown" in dns(Answer(), internal).problem


def test_nothing_that_a_cluster_says_becomes_a_command_of_its_own() -> None:
    host = "a;reboot.example.com"
    given = facts(public(), objects=served(hosts=(host,)))
    assert "create 'a;reboot.example.com.' --zone" in found(given)["DNSRecordMissing"].command


@pytest.mark.parametrize(
    ("status", "code", "severity", "words"),
    [
        (
            {"certificateStatus": "Provisioning", "domainStatus": [{"domain": HOST, "status": "FailedNotVisible"}]},
            "FailedNotVisible", "warning", "create the DNS record in status.dns",
        ),
        (
            {"certificateStatus": "ProvisioningFailed", "domainStatus": [{"domain": HOST, "status": "FailedCaaForbidden"}]},
            "FailedCaaForbidden", "error", "allow pki.goog",
        ),
        ({"certificateStatus": "ProvisioningFailedPermanently"}, "ProvisioningFailedPermanently", "error", "start over"),
        ({"certificateStatus": "Provisioning"}, "Provisioning", "warning", "15 to 60 minutes"),
    ],
)  # fmt: skip
def test_certificates_in_words(status: Body, code: str, severity: str, words: str) -> None:
    objects = served()
    objects[MANAGED_CERTIFICATE][0]["status"] = status
    finding = dns(Answer((ADDRESS,)), facts(public(), objects=objects))
    assert (finding.code, finding.severity) == (code, severity)
    assert words in finding.problem


def scaled(**spec: Any) -> Body:
    return endpoint(conditions=(READY,), autoscaling={"max": 3}, **spec)


def scaling() -> dict[Kind, Any]:
    """An autoscaler that has nothing to complain of, so that only what serves the metrics is."""
    status = {"conditions": [condition("ScalingActive", "True"), condition("AbleToScale", "True")]}
    return {
        DEPLOYMENT: (deployed(),),
        SERVICE: (child(SERVICE),),
        AUTOSCALER: (child(AUTOSCALER, spec={}, status=status),),
    }


def service(group: str, available: str = "True", message: str = "") -> Body:
    state = condition("Available", available, "", message)
    return raw(f"v1.{group}", "", spec={"group": group}, status={"conditions": [state]})


NODE = raw(
    "n1",
    "",
    metadata={"labels": T4},
    spec={},
    status={"conditions": [condition("Ready", "True")], "allocatable": {"nvidia.com/gpu": "1"}},
)


def test_metrics_that_nothing_serves() -> None:
    given = facts(scaled(), objects=scaling(), nodes=(NODE,))
    finding = found(given)["MetricsAPIMissing"]
    assert (finding.severity, str(finding.subject)) == ("error", "APIService custom.metrics.k8s.io")
    assert "prometheus-adapter" in finding.advice
    of_cpu = found(facts(scaled(**CPU), objects=scaling()))["MetricsAPIMissing"]
    assert (str(of_cpu.subject), "Install metrics-server" in of_cpu.advice) == (
        "APIService metrics.k8s.io",
        True,
    )
    down = service("custom.metrics.k8s.io", "False", "no endpoints")
    finding = found(facts(scaled(), objects=scaling(), nodes=(NODE,), api_services=(down,)))[
        "MetricsAPIUnavailable"
    ]
    assert "does not answer (no endpoints)" in finding.problem
    assert finding.command == "kubectl describe apiservice v1.custom.metrics.k8s.io"
    up = facts(
        scaled(), objects=scaling(), nodes=(NODE,), api_services=(down, service("custom.metrics.k8s.io"))
    )
    assert found(up) == {}
    assert "NotPermitted" in found(facts(scaled(), objects=scaling(), nodes=(NODE,), api_services=FORBIDDEN))
    assert found(facts(public(), objects=served(), api_services=FORBIDDEN), {HOST: Answer((ADDRESS,))}) == {}


def on_gpu(**spec: Any) -> Body:
    return endpoint(conditions=(READY,), **spec)


RUNS: dict[Kind, Any] = {DEPLOYMENT: (deployed(),), SERVICE: (child(SERVICE),)}


def node(name: str, **status: Any) -> Body:
    return {**NODE, "metadata": {**NODE["metadata"], "name": name}, "status": {**NODE["status"], **status}}


def test_nodes_with_the_gpu() -> None:
    assert found(facts(on_gpu(), objects=RUNS, nodes=(NODE,))) == {}
    assert "1 node offers GPU nvidia-tesla-t4" in well(facts(on_gpu(), objects=RUNS, nodes=(NODE,)))
    missing = found(facts(on_gpu(), objects=RUNS))["GPUNodesMissing"]
    assert missing.severity == "warning"
    assert "cloud.google.com/gke-accelerator=nvidia-tesla-t4" in missing.problem
    assert "--accelerator=type=nvidia-tesla-t4,count=1,gpu-driver-version=latest" in missing.command
    spot = found(facts(on_gpu(accelerator={"spot": True}), objects=RUNS, nodes=(NODE,)))["GPUNodesMissing"]
    assert str(spot.subject) == "GPU nvidia-tesla-t4 (spot)"
    cordoned = {**NODE, "spec": {"unschedulable": True}}
    lost = node("n2", conditions=[condition("Ready", "Unknown")])
    finding = found(facts(on_gpu(), objects=RUNS, nodes=(cordoned, lost)))["GPUNodesNotReady"]
    assert (finding.severity, "n1, n2" in finding.problem) == ("error", True)
    unread = found(facts(on_gpu(), objects=RUNS, nodes=FORBIDDEN))
    assert unread["NotPermitted"].problem.startswith("GPU nodes: not checked")


def test_nodes_without_a_driver() -> None:
    broken = node("n2", allocatable={"cpu": "8"})
    one = found(facts(on_gpu(), objects=RUNS, nodes=(NODE, broken)))["GPUDriverMissing"]
    assert (one.severity, "1 of 2 such nodes can give one" in one.problem) == ("warning", True)
    finding = found(facts(on_gpu(), objects=RUNS, nodes=(broken,)))["GPUDriverMissing"]
    assert finding.severity == "error"
    assert finding.problem.startswith(
        "Node n2 has the label cloud.google.com/gke-accelerator=nvidia-tesla-t4 and no nvidia.com/gpu to give"
    )
    young = {**broken, "metadata": {**broken["metadata"], "creationTimestamp": "2026-03-01T11:55:00Z"}}
    assert found(facts(on_gpu(), objects=RUNS, nodes=(young,)))["GPUDriverMissing"].severity == "warning"


def test_the_installations_own_gpus() -> None:
    table = settings_of(
        {"accelerators": {"rtx": {"nodeSelector": {"gpu": "rtx"}, "resource": "example.com/gpu"}}}
    )
    own = (installation(settings=table),)
    given = on_gpu(accelerator={"type": "rtx"}, image="x")
    rtx = {**NODE, "metadata": {**NODE["metadata"], "labels": {"gpu": "rtx"}}}
    finding = found(facts(given, objects=RUNS, nodes=(rtx,), installations=own))["GPUDriverMissing"]
    assert finding.command == "kubectl describe node n1"
    unread = (installation(settings=None),)
    unknown = found(facts(on_gpu(), objects=RUNS, nodes=(NODE,), installations=unread))
    assert "needs the right to read the installation's configuration" in unknown["NotPermitted"].problem


def quota(hard: Body, used: Body, **spec: Any) -> Body:
    return raw("q", spec=spec, status={"hard": hard, "used": used})


@pytest.mark.parametrize(
    ("hard", "used", "words"),
    [
        ({"requests.nvidia.com/gpu": "2"}, {"requests.nvidia.com/gpu": "2"}, "requests.nvidia.com/gpu: 1 a pod, and 0 free of 2"),
        ({"pods": "3"}, {"pods": "2"}, "pods: 1 a pod, and 1 free of 3"),
        ({"memory": "40Gi"}, {"memory": "24Gi"}, "memory: 24Gi a pod, and 16Gi free of 40Gi"),
        ({"limits.memory": "40Gi"}, {"limits.memory": "24Gi"}, "limits.memory: 24Gi a pod"),
        ({"requests.cpu": "7500m"}, {"requests.cpu": "4"}, "requests.cpu: 4 a pod, and 3.5 free of 7500m"),
    ],
)  # fmt: skip
def test_a_quota_that_is_too_small(hard: Body, used: Body, words: str) -> None:
    objects = {**RUNS, DEPLOYMENT: (deployed(wanted=3, there=1),)}
    given = facts(on_gpu(replicas=3), objects=objects, nodes=(NODE,), quotas=(quota(hard, used),))
    finding = found(given)["QuotaTooSmall"]
    assert "WhisperEndpoint asr/whisper lacks 2 of 3 replicas" in finding.problem
    assert words in finding.problem
    assert finding.command == "kubectl describe resourcequota -n asr q"


def test_a_quota_with_room_or_of_no_concern() -> None:
    objects = {**RUNS, DEPLOYMENT: (deployed(wanted=3, there=1),)}
    full = {"hard": {"requests.nvidia.com/gpu": "2"}, "used": {"requests.nvidia.com/gpu": "2"}}
    for each in (
        quota({"requests.nvidia.com/gpu": "4"}, {"requests.nvidia.com/gpu": "2"}),
        quota({"services": "0"}, {}),
        quota(full["hard"], full["used"], scopes=["BestEffort"]),
        {**quota(full["hard"], full["used"]), "metadata": raw("q", "elsewhere")["metadata"]},
    ):
        given = facts(on_gpu(replicas=3), objects=objects, nodes=(NODE,), quotas=(each,))
        assert "QuotaTooSmall" not in found(given)
    unread = found(facts(on_gpu(), objects=RUNS, nodes=(NODE,), quotas=Gap("list resourcequotas", "")))
    assert unread["NotPermitted"].problem == "Quotas: not checked: needs the right to list resourcequotas"


def test_a_quota_without_room_for_a_change() -> None:
    rolling = deployed(strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}})
    full = quota({"requests.nvidia.com/gpu": "1"}, {"requests.nvidia.com/gpu": "1"})
    given = facts(on_gpu(), objects={**RUNS, DEPLOYMENT: (rolling,)}, nodes=(NODE,), quotas=(full,))
    finding = found(given)["QuotaWithoutSurge"]
    assert (finding.severity, "a change of it will not go out" in finding.problem) == ("warning", True)
    recreate = deployed(strategy={"type": "Recreate"})
    assert (
        found(facts(on_gpu(), objects={**RUNS, DEPLOYMENT: (recreate,)}, nodes=(NODE,), quotas=(full,))) == {}
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
    blamed = (
        condition("Ready", "False", "ImagePullFailed", "It is not there. No other endpoint is upgraded."),
        condition("Stalled", "True", "ImagePullFailed"),
    )
    finding = found(facts(endpoint(conditions=blamed, **CPU), objects=objects))["ImagePullFailed"]
    assert (finding.severity, finding.problem) == ("error", "It is not there. No other endpoint is upgraded.")
    # With fewer rights, it is what the operator has said.
    unread = facts(endpoint(conditions=(READY,), **CPU), objects={**objects, POD: FORBIDDEN})
    assert "ImagePullFailed" not in found(unread)
    assert "is ready. The current spec is served." in well(unread)


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


def test_endpoints_that_can_t_be_listed() -> None:
    assert found(replace(facts(), endpoints=FORBIDDEN))["NotPermitted"].problem == (
        "Endpoints: not checked: needs the right to list things in the whole cluster"
    )
