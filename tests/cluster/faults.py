"""What can go wrong with an endpoint: how it is brought about, what the status says of it, and what mends it.

docs/troubleshooting.md is written from this list and from what the operator really says (see troubleshooting.py).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from devcluster import Cluster
from devcluster.stage_parts import FAULT
from tests.cluster.support import endpoint, exists, patch, until, wait_for_condition

NAME = "whisper"

Act = Callable[[Cluster, str], None]
"""Done to a cluster, in a namespace."""


@dataclass(frozen=True)
class Fault:
    """One line of the table."""

    name: str
    symptom: str
    reason: str
    """Of the condition, and of Ready."""
    words: tuple[str, ...]
    """Some of what the message has to say."""
    cure: str
    """What to do, in words; `mend` does it."""
    mend: Act
    spec: dict[str, Any] = field(default_factory=dict)
    condition: str = "Ready"
    stalled: bool = True
    serves: bool = False
    """Whether Ready is True all the same, and only adds a note."""
    outlives_events: bool = True
    """Whether it is known once the events that told of it have expired."""
    settings: dict[str, str] = field(default_factory=dict)
    """Of GKE's stand-in."""
    before: Act = lambda cluster, namespace: None
    after: Act = lambda cluster, namespace: None


def filled(spec: dict[str, Any], namespace: str) -> dict[str, Any]:
    """With a host and an address of the namespace's own, as no two endpoints may have the same."""
    text = json.dumps(spec).replace("HOST", f"{namespace}.example.com").replace("NAME-ip", f"{namespace}-ip")
    return dict(json.loads(text))


def bring_about(cluster: Cluster, namespace: str, fault: Fault) -> None:
    if fault.settings:
        configure(**fault.settings)(cluster, namespace)
    fault.before(cluster, namespace)
    cluster.apply(endpoint(NAME, namespace, **filled(fault.spec, namespace)))
    fault.after(cluster, namespace)


def respec(**spec: Any) -> Act:
    return lambda cluster, namespace: patch(cluster, namespace, **spec)


def simulated(fault: str) -> dict[str, Any]:
    """Part of a spec whose pods fail."""
    return {"device": "cpu", "scheduling": {"podLabels": {FAULT: fault}}}


def pods_recover(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("label", "pods", "--all", "-n", namespace, f"{FAULT}-")


def configure(**settings: str) -> Act:
    """Settings of GKE's stand-in, for the namespace."""

    def act(cluster: Cluster, namespace: str) -> None:
        metadata = {"name": "gke-stand-in", "namespace": namespace}
        cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": settings})

    return act


def quota(**hard: str) -> Act:
    def act(cluster: Cluster, namespace: str) -> None:
        pairs = ",".join(f"{name}={value}" for name, value in hard.items())
        cluster.kubectl("create", "quota", "q", f"--hard={pairs}", "-n", namespace)
        until(
            lambda: cluster.get("resourcequota", "q", "-n", namespace).get("status", {}).get("hard"),
            "the quota in force",
        )

    return act


def limit_range(cluster: Cluster, namespace: str) -> None:
    limits = [{"type": "Container", "max": {"memory": "8Gi"}}]
    metadata = {"name": "small", "namespace": namespace}
    cluster.apply(
        {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": limits}}
    )


def pulled_for_minutes(cluster: Cluster, namespace: str) -> None:
    """The kubelet has tried for a while, and says so by the times of its event."""

    def failed() -> str | None:
        events = cluster.get("events", "-n", namespace)["items"]
        names = (each["metadata"]["name"] for each in events if "Failed to pull image" in each["message"])
        return next(names, None)

    name = until(failed, "a failed pull")
    change = json.dumps({"count": 9, "firstTimestamp": "2026-01-01T00:00:00Z"})
    cluster.kubectl("patch", "event", name, "-n", namespace, "--type=merge", "-p", change)


def out_of_line(cluster: Cluster, namespace: str) -> None:
    """A load balancer that serves, and can't be changed any more."""
    wait_for_condition(cluster, namespace, NAME)
    configure(syncError="googleapi: Error 403: The caller does not have permission, forbidden")(
        cluster, namespace
    )


def back_in_line(cluster: Cluster, namespace: str) -> None:
    """With a change, as a controller without one says nothing when it succeeds."""
    configure(syncError="")(cluster, namespace)
    patch(cluster, namespace, staticIPName=f"{namespace}-ip")


def out_of_groups(cluster: Cluster, namespace: str) -> None:
    """It serves, and its network endpoint groups can't be kept any more."""
    wait_for_condition(cluster, namespace, NAME)
    configure(negError="googleapi: Error 403: Quota 'NETWORK_ENDPOINT_GROUPS' exceeded.")(cluster, namespace)


def groups_again(cluster: Cluster, namespace: str) -> None:
    """With a new Service: of the old one, its controller would only fall silent."""
    configure(negError="")(cluster, namespace)
    cluster.kubectl("delete", "service", NAME, "-n", namespace)


def gpu_quota(cluster: Cluster, namespace: str) -> None:
    quota(**{"requests.nvidia.com/gpu": "0"})(cluster, namespace)


def delete(*what: str) -> Act:
    return lambda cluster, namespace: void(cluster.kubectl("delete", *what, "-n", namespace))


def void(_: object) -> None:
    """For lambdas that return nothing."""


def foreign_service(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("create", "service", "clusterip", NAME, "--tcp=80", "-n", namespace)


def older(**spec: Any) -> Act:
    """An endpoint that was there before."""

    def act(cluster: Cluster, namespace: str) -> None:
        cluster.apply(endpoint("older", namespace, device="cpu", **filled(spec, namespace)))
        wait_for_condition(cluster, namespace, "older")

    return act


CLAIM: dict[str, Any] = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}


def claim(cluster: Cluster, namespace: str) -> None:
    """A PersistentVolumeClaim `models` that waits for the namespace's volume."""
    wanted = {**CLAIM, "resources": {"requests": {"storage": "10Gi"}}, "volumeName": namespace}
    metadata = {"name": "models", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": wanted})


def volume(cluster: Cluster, namespace: str) -> None:
    spec = {**CLAIM, "capacity": {"storage": "10Gi"}, "hostPath": {"path": "/models"}}
    cluster.apply(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": namespace}, "spec": spec}
    )


def claim_with_volume(cluster: Cluster, namespace: str) -> None:
    volume(cluster, namespace)
    claim(cluster, namespace)


def allow_http(annotation: str) -> Act:
    def act(cluster: Cluster, namespace: str) -> None:
        until(lambda: exists(cluster, namespace, "ingress", NAME), "the Ingress")
        cluster.kubectl("annotate", "ingress", NAME, "-n", namespace, annotation)

    return act


def tls_secret(cluster: Cluster, namespace: str) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "nope", "namespace": namespace}}
    cluster.apply({**secret, "stringData": {"tls.crt": "certificate", "tls.key": "key"}})


def node_of_its_own(cluster: Cluster, namespace: str, gpus: int = 1) -> None:
    """A node with so many GPUs, for the namespace's endpoint alone."""
    node = cluster.get("node", "gke-devcluster-t4-0")
    amounts = {**node["status"]["capacity"], "nvidia.com/gpu": str(gpus)}
    labels = {**node["metadata"]["labels"], "only": namespace, "kubernetes.io/hostname": namespace}
    metadata = {"name": namespace, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}}
    spec = {"podCIDR": "10.200.0.0/24", "podCIDRs": ["10.200.0.0/24"], "taints": node["spec"]["taints"]}
    status = {"capacity": amounts, "allocatable": amounts, "addresses": node["status"]["addresses"]}
    cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec, "status": status})
    patch(cluster, namespace, scheduling={"nodeSelector": {"only": namespace}})


def change_on_one_gpu(cluster: Cluster, namespace: str) -> None:
    """Ready on the only GPU, then changed; half an hour passes."""
    node_of_its_own(cluster, namespace)
    wait_for_condition(cluster, namespace, NAME)
    patch(cluster, namespace, defaults={"language": "de"})
    wait_for_condition(cluster, namespace, NAME, "Ready", "False", "Unschedulable")
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    change = json.dumps({"status": {"conditions": [late]}})
    cluster.kubectl(
        *("patch", "deployment", NAME, "-n", namespace, "--subresource=status"),
        *("--type=strategic", "-p", change),
    )


def certificates(status: str) -> Act:
    return configure(certificates=status)


def start_over(cluster: Cluster, namespace: str) -> None:
    certificates("Active")(cluster, namespace)
    cluster.kubectl("delete", "managedcertificate", "--all", "-n", namespace)


def certificate(status: str, symptom: str, words: str, cure: str, **more: Any) -> Fault:
    """A state that a managed certificate may come to."""
    return Fault(
        name=f"certificate-{status.lower()}",
        symptom=symptom,
        reason=more.pop("reason", status),
        words=(words,),
        cure=cure,
        mend=more.pop("mend", certificates("Active")),
        spec={"device": "cpu", "host": "HOST"},
        condition="CertificateReady",
        settings={"certificates": status},
        stalled=more.pop("stalled", False),
    )


A100 = {"accelerator": {"type": "nvidia-tesla-a100"}}
L4 = respec(accelerator={"type": "nvidia-l4"})
FROM_CLAIM = {
    "device": "cpu",
    "model": "/models/x.pt",
    "modelVolume": {"persistentVolumeClaim": {"claimName": "models"}},
}
VISIBLE = "create the DNS record in status.dns"

FAULTS = (
    Fault(
        "image", "The image can't be pulled", "ImagePullFailed",
        ("large-v3", "not found", "make images", "spec.imagePullSecrets"),
        "push the image", pods_recover, simulated("image-pull"), after=pulled_for_minutes,
    ),
    Fault(
        "registry", "The registry is down for a moment", "ImagePullFailed",
        ("large-v3", "not found"), "wait: only what lasts for two minutes needs somebody", pods_recover,
        simulated("image-pull"), stalled=False,
    ),
    Fault(
        "crash", "The server crashes again and again", "CrashLooping",
        ("exit status 1", "kubectl logs"), "mend what the log says", pods_recover, simulated("crash-loop"),
    ),
    Fault(
        "memory", "The model is too large for the memory", "OutOfMemory",
        ("OOMKilled", "24Gi", "spec.resources.limits.memory", "spec.model"),
        "ask for more memory, or a smaller model", pods_recover, simulated("oom"),
    ),
    Fault(
        "device", "The server can't use its GPU", "DeviceUnusable",
        ("CUDA can't be used", "driver"), "install the driver that the message asks for", pods_recover,
        {"scheduling": {"podLabels": {FAULT: "no-device"}}},
    ),
    Fault(
        "secret", "The Secret with the API keys is missing", "SecretMissing",
        ("Secret nope", "kubectl create secret generic"), "create the Secret", pods_recover,
        {**simulated("missing-secret"), "auth": {"secretName": "nope"}},
    ),
    Fault(
        "claim", "The PersistentVolumeClaim is missing", "VolumeClaimMissing",
        ("PersistentVolumeClaim models", "claimName"), "create the claim", claim_with_volume, FROM_CLAIM,
    ),
    Fault(
        "volume", "The PersistentVolumeClaim has no volume", "VolumeClaimPending",
        ("no volume yet", "kubectl describe pvc"), "create the volume that it waits for", volume, FROM_CLAIM,
        before=claim, stalled=False,
    ),
    Fault(
        "unschedulable", "No node fits", "Unschedulable",
        ("nvidia-tesla-a100", "spec.accelerator", "nodes are available"), "ask for what the cluster has", L4, A100,
        stalled=False,
    ),
    Fault(
        "gpu-quota", "The project has no quota for GPUs", "NoGPUQuota",
        ("quota for nvidia-tesla-a100", "GCE quota exceeded"), "ask Google for more, or use another type", L4, A100,
        settings={"scaleUp": "GCE quota exceeded"},
    ),
    Fault(
        "out-of-stock", "Google has no such GPU to give", "OutOfStock",
        ("nvidia-tesla-a100", "GCE out of resources"), "wait, or use another type or zone", L4, A100,
        stalled=False, settings={"scaleUp": "GCE out of resources"},
    ),
    Fault(
        "resource-quota", "The namespace's ResourceQuota has no room for the pods", "QuotaExceeded",
        ("ResourceQuota q", "exceeded quota: q", "raise it"), "raise the quota, or ask for less",
        respec(accelerator=None, device="cpu"), before=gpu_quota,
    ),
    Fault(
        "uncounted-quota", "The namespace's ResourceQuota asks for limits that pods don't name", "PodsRefused",
        ("ResourceQuota q", "set spec.resources.limits.cpu"), "set what the message names",
        respec(resources={"limits": {"cpu": "4"}}), {"device": "cpu"}, before=quota(**{"limits.cpu": "64"}),
    ),
    Fault(
        "limit-range", "The namespace's LimitRange forbids what pods ask for", "PodsRefused",
        ("LimitRange", "change spec.resources.limits.memory", "maximum memory usage per Container is 8Gi"),
        "ask for less, or have the range changed", respec(resources={"limits": {"memory": "8Gi"}}),
        {"device": "cpu"}, before=limit_range,
    ),
    Fault(
        "service-account", "The ServiceAccount is missing", "ServiceAccountMissing",
        ("ServiceAccount nope", "spec.scheduling.serviceAccountName"), "create it, or correct its name",
        respec(scheduling=None), {"device": "cpu", "scheduling": {"serviceAccountName": "nope"}},
    ),
    Fault(
        "priority-class", "The PriorityClass is missing", "PriorityClassMissing",
        ("PriorityClass nope", "spec.scheduling.priorityClassName"), "create it, or correct its name",
        respec(scheduling=None), {"device": "cpu", "scheduling": {"priorityClassName": "nope"}},
    ),
    Fault(
        "stuck", "A change waits for a second GPU that is not to be had", "RolloutStuck",
        ("no progress", "rollout: Recreate"), "set `rollout: Recreate`", respec(rollout="Recreate"),
        after=change_on_one_gpu,
    ),
    Fault(
        "accelerator", "The type of GPU is not in the installation's table", "UnknownAccelerator",
        ("abacus", "nvidia-l4", "ask the platform team"), "use one that the message names", L4,
        {"accelerator": {"type": "abacus"}},
    ),
    Fault(
        "name", "An object of that name is there already", "NameConflict",
        ("services whisper", "not touched"), "delete or rename it, or name the endpoint differently",
        delete("service", NAME), {"device": "cpu"}, before=foreign_service,
    ),
    Fault(
        "host", "An older endpoint has the host", "HostConflict",
        ("WhisperEndpoint older", "another host"), "use another host, or take it out of the other endpoint",
        delete("wep", "older"), {"device": "cpu", "host": "HOST"}, before=older(host="HOST"),
    ),
    Fault(
        "address", "An older endpoint has the static address", "StaticIPConflict",
        ("WhisperEndpoint older", "another staticIPName"),
        "use another address, or take it out of the other endpoint", delete("wep", "older"),
        {"device": "cpu", "host": "HOST", "staticIPName": "NAME-ip"},
        before=older(host="other-HOST", staticIPName="NAME-ip"),
    ),
    Fault(
        "refused", "The API server refuses a child", "ApplyRefused",
        ("Service whisper", "exceeded quota"), "mend what the message names", delete("quota", "q"),
        {"device": "cpu"}, before=quota(services="0"),
    ),
    Fault(
        "static-ip", "The project has no address of that name", "StaticIPNotFound",
        ("nosuch", "gcloud compute addresses create nosuch --global"), "reserve it, or correct its name",
        respec(staticIPName="there"), {"device": "cpu", "host": "HOST", "staticIPName": "nosuch"},
        condition="AddressAssigned",
    ),
    Fault(
        "tls-secret", "The Secret with the certificate is missing", "TLSSecretMissing",
        ("/nope", "kubectl create secret tls -n"), "create the Secret", tls_secret,
        {"device": "cpu", "host": "HOST", "ingress": {"tls": {"secretName": "nope"}}},
        condition="AddressAssigned",
    ),
    Fault(
        "pre-shared", "The project has no certificate of that name", "CertificateNotFound",
        ("nosuch", "gcloud compute ssl-certificates create"), "create it, or correct its name",
        respec(ingress={"tls": {"preSharedCert": "there"}}),
        {"device": "cpu", "host": "HOST", "ingress": {"tls": {"preSharedCert": "nosuch"}}},
        condition="AddressAssigned",
    ),
    Fault(
        "allow-http", "HTTP was switched off by hand, and there is no certificate yet", "NoHTTPAndNoCertificate",
        ("kubernetes.io/ingress.allow-http-", "httpsRedirect"), "take the annotation away",
        allow_http("kubernetes.io/ingress.allow-http-"),
        {"device": "cpu", "host": "HOST", "ingress": {"tls": {"mode": "none"}}},
        condition="AddressAssigned", settings={"addressSeconds": "10"},
        after=allow_http("kubernetes.io/ingress.allow-http=false"),
    ),
    Fault(
        "no-address", "The load balancer gets no address, and nobody says why", "AddressPending",
        ("kubectl describe ingress -n",), "see the Ingress's events",
        configure(noAddress="false"), {"device": "cpu", "host": "HOST"},
        condition="AddressAssigned", stalled=False, settings={"noAddress": "true"},
    ),
    Fault(
        "metrics", "Nothing serves the metrics that autoscaling goes by", "NoMetricsAPI",
        ("install an adapter", "set replicas instead"), "install the adapter, or set replicas",
        respec(autoscaling=None, replicas=1), {"autoscaling": {"max": 3}}, condition="AutoscalingReady",
        stalled=False, serves=True,
    ),
    Fault(
        "too-many-certificates", "The project's quota of SSL certificates is used up", "TooManyCertificates",
        ("quota of SSL certificates", "gcloud compute ssl-certificates list", "QUOTA_EXCEEDED"),
        "raise the quota, or delete what nothing uses", configure(certificateError=""),
        {"device": "cpu", "host": "HOST"}, condition="CertificateReady",
        settings={"certificateError": "googleapi: Error 403: QUOTA_EXCEEDED - Quota 'SSL_CERTIFICATES' exceeded."},
    ),
    Fault(
        "certificate-api", "Google's API does not take the request for a certificate", "BackendError",
        ("asked again", "Internal error encountered"), "wait, or mend what Google names",
        configure(certificateError=""), {"device": "cpu", "host": "HOST"}, condition="CertificateReady",
        stalled=False, settings={"certificateError": "googleapi: Error 500: Internal error encountered."},
    ),
    Fault(
        "sync", "The load balancer can't be changed, and serves as it was", "SyncFailed",
        ("can't bring its load balancer in line", "The caller does not have permission"), "mend what Google names",
        back_in_line, {"device": "cpu", "host": "HOST"}, stalled=False, outlives_events=False, after=out_of_line,
    ),
    Fault(
        "groups", "The pods don't get behind the load balancer", "EndpointGroupFailed",
        ("pods of Service whisper", "NETWORK_ENDPOINT_GROUPS"), "mend what Google names", groups_again,
        {"device": "cpu", "host": "HOST"}, stalled=False, outlives_events=False, after=out_of_groups,
    ),
    certificate("Provisioning", "The certificate is being made", "15 to 60 minutes", "wait"),
    certificate("FailedNotVisible", "Google does not find the host in DNS", VISIBLE, "create the DNS record"),
    certificate(
        "FailedCaaChecking", "The host's CAA records can't be read", "check the zone's DNS servers", "mend the zone"
    ),
    certificate(
        "FailedCaaForbidden", "The host's CAA records forbid it", "allow pki.goog", "allow pki.goog", stalled=True
    ),
    certificate("FailedRateLimited", "Too many certificates were asked for", "wait, it tries again", "wait"),
    certificate(
        "ProvisioningFailed", "A first try failed", VISIBLE, "create the DNS record", reason="FailedNotVisible"
    ),
    certificate(
        "ProvisioningFailedPermanently", "Google gives up", "delete the ManagedCertificate",
        "correct the host, or delete the ManagedCertificate", stalled=True, mend=start_over,
    ),
    certificate(
        "RenewalFailed", "The certificate can't be renewed", "DNS still points at status.address", "correct the DNS record"
    ),
)  # fmt: skip
