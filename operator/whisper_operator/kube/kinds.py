"""The kinds of object that the operator reads or writes, and the names it marks its own with."""

from dataclasses import dataclass

GROUP = "whisper-operator.io"
FIELD_MANAGER = "whisper-operator"

NAME_LABEL = "app.kubernetes.io/name"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
ENDPOINT_LABEL = f"{GROUP}/endpoint"
HASH_ANNOTATION = f"{GROUP}/applied-hash"
SPEC_ANNOTATION = f"{GROUP}/spec-hash"
TEMPLATE_ANNOTATION = f"{GROUP}/template-hash"
UPGRADING_ANNOTATION = f"{GROUP}/upgrading"
"""On a Deployment: what of the endpoint's own spec its pods were made for, what pods were declared, and, until those have served
for a while, that they are on their way, if the installation has changed them and not the spec (rollouts.progress.Mark)."""
PAUSED_ANNOTATION = f"{GROUP}/paused"
"""On an endpoint, by its users: the installation changes nothing of its pods."""
CLASS_ANNOTATION = "kubernetes.io/ingress.class"
"""Which controller an Ingress is for, as GKE's want to be told."""

STATIC_IP_ANNOTATIONS = {
    "gce": "kubernetes.io/ingress.global-static-ip-name",
    "gce-internal": "kubernetes.io/ingress.regional-static-ip-name",
}
"""Which reserved address an Ingress has, by the class."""

DELETION_POLICY = "cnrm.cloud.google.com/deletion-policy"
"""Config Connector's annotation: what becomes of the thing in the project when the object is deleted."""

APP_NAME = "whisper-server"
OURS = f"{MANAGED_BY_LABEL}={FIELD_MANAGER}"
"""Label selector of every child of every endpoint."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource type of the Kubernetes API."""

    group: str
    version: str
    plural: str
    name: str
    optional: bool = False
    """Whether an endpoint does without it on a cluster that lacks it."""
    owned: bool = True
    """Whether it goes with its endpoint."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """As kubectl names it: `managedcertificates.networking.gke.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(
        self, namespace: str | None = None, name: str | None = None, subresource: str | None = None
    ) -> str:
        """URL path of one object, of a namespace's collection, or of the whole cluster's."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts += [self.plural, *(part for part in (name, subresource) if part is not None)]
        return "/" + "/".join(parts)


ENDPOINT = Kind(GROUP, "v1alpha1", "whisperendpoints", "WhisperEndpoint")
EVENT = Kind("", "v1", "events", "Event")

DEPLOYMENT = Kind("apps", "v1", "deployments", "Deployment")
SERVICE = Kind("", "v1", "services", "Service")
INGRESS = Kind("networking.k8s.io", "v1", "ingresses", "Ingress")
BACKEND_CONFIG = Kind("cloud.google.com", "v1", "backendconfigs", "BackendConfig")
MANAGED_CERTIFICATE = Kind("networking.gke.io", "v1", "managedcertificates", "ManagedCertificate")

FRONTEND_CONFIG = Kind("networking.gke.io", "v1beta1", "frontendconfigs", "FrontendConfig")
NETWORK_POLICY = Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
AUTOSCALER = Kind("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
DISRUPTION_BUDGET = Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
POD_MONITORING = Kind("monitoring.googleapis.com", "v1", "podmonitorings", "PodMonitoring", optional=True)
POD_MONITOR = Kind("monitoring.coreos.com", "v1", "podmonitors", "PodMonitor", optional=True)
COMPUTE_ADDRESS = Kind(
    "compute.cnrm.cloud.google.com", "v1beta1", "computeaddresses", "ComputeAddress", owned=False
)

CHILDREN = (
    COMPUTE_ADDRESS,
    BACKEND_CONFIG,
    FRONTEND_CONFIG,
    NETWORK_POLICY,
    SERVICE,
    DEPLOYMENT,
    AUTOSCALER,
    DISRUPTION_BUDGET,
    POD_MONITORING,
    POD_MONITOR,
    MANAGED_CERTIFICATE,
    INGRESS,
)
"""In the order they are written: an object that another one names comes before it."""

REPLICA_SET = Kind("apps", "v1", "replicasets", "ReplicaSet")
POD = Kind("", "v1", "pods", "Pod")

WITNESSES = (REPLICA_SET, POD, EVENT)
"""Read for the status only."""

LEASE = Kind("coordination.k8s.io", "v1", "leases", "Lease")
"""Not watched: who writes is decided by them, and read with each renewal."""

ACCESS_REVIEW = Kind("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview")
"""A question that is asked by creating it: of no namespace, and kept nowhere."""

# What else doctor reads.
NODE = Kind("", "v1", "nodes", "Node")
QUOTA = Kind("", "v1", "resourcequotas", "ResourceQuota")
CONFIG_MAP = Kind("", "v1", "configmaps", "ConfigMap")
CRD = Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition")
API_SERVICE = Kind("apiregistration.k8s.io", "v1", "apiservices", "APIService")

WARNINGS = "type=Warning"
"""Field selector of the Events that matter."""
