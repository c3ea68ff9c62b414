"""What of a child is the operator's own: every field that any spec could have it write, but for those that any name could have.

Others add to children: a sidecar, labels of Argo CD's, the time of a restart. That stays. What is in here and not declared does
not stay, whoever put it there: it says of the endpoint what its spec no longer says, or stands where the API allows one of
several fields, and would have it refuse what is declared.

Not in here, though a spec may ask for it, are labels, annotations and variables under names that users choose, which nobody could
tell from others' additions; what GKE writes as well (the annotations cloud.google.com/neg and
ingress.gcp.kubernetes.io/pre-shared-cert); and the names of security and SSL policies, as to take off what somebody put on to
protect an endpoint is not the operator's to decide.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from whisper_operator.kube.kinds import (
    CLASS_ANNOTATION,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    FRONTEND_CONFIG,
    INGRESS,
    SERVICE,
    UPGRADING_ANNOTATION,
    Kind,
)
from whisper_operator.manifests.environment import CACHES, KEYS, MODELS, SCRATCH


@dataclass(frozen=True)
class Whole:
    """The field with all that is in it."""


@dataclass(frozen=True)
class Names:
    """Of a mapping, the entries with certain names."""

    own: Callable[[str], bool]


@dataclass(frozen=True)
class Entries:
    """Of a list of named entries, such as containers: those with certain names are the operator's as a whole while they are not
    declared, and as far as `inside` says while they are. Those that are declared count as such, whatever their name."""

    key: str
    own: Callable[[str], bool]
    inside: "Part"


Part = Whole | Names | Entries | Mapping[str, "Part"]
"""A mapping: by the names of fields, what of each is the operator's."""

WHOLE = Whole()
NOTHING: Part = {}


def _one_of(*names: str) -> Callable[[str], bool]:
    return frozenset(names).__contains__


def _is_variable(name: str) -> bool:
    return name.startswith("WHISPER_") or name in CACHES


def _is_resource(name: str) -> bool:
    return (
        name in ("cpu", "memory", "ephemeral-storage")
        or name.startswith("nvidia.com/")
        or name.endswith("/gpu")
    )


VOLUMES = frozenset(("tmp", "models", "api-keys"))

_OF_OTHER_SERVICES = (
    "allocateLoadBalancerNodePorts",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "loadBalancerClass",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
)
"""Never written, and not for a Service of our type: what is left of them when the type is put back may be refused."""

_PROBE: Part = dict.fromkeys(("exec", "grpc", "httpGet", "tcpSocket"), WHOLE)

_CONTAINER: Part = {
    "env": Entries("name", _is_variable, WHOLE),
    "resources": {"limits": Names(_is_resource), "requests": Names(_is_resource)},
    "startupProbe": _PROBE,
    "readinessProbe": _PROBE,
    "livenessProbe": _PROBE,
    "lifecycle": {"preStop": WHOLE},
    "volumeMounts": Entries("mountPath", _one_of(SCRATCH, MODELS, KEYS), WHOLE),
}

_POD: Part = {
    "containers": Entries("name", _one_of("server"), _CONTAINER),
    "initContainers": Entries("name", _one_of("download"), _CONTAINER),
    "volumes": Entries("name", VOLUMES.__contains__, WHOLE),
    "imagePullSecrets": WHOLE,
    "nodeSelector": WHOLE,
    "priorityClassName": WHOLE,
    "tolerations": WHOLE,
    "topologySpreadConstraints": WHOLE,
}

DOMAIN: Mapping[Kind, Part] = {
    DEPLOYMENT: {
        # `kubectl rollout undo` brings it back with the pods that it was written for.
        "metadata": {"annotations": Names(_one_of(UPGRADING_ANNOTATION))},
        "spec": {"strategy": WHOLE, "template": {"spec": _POD}},
    },
    DISRUPTION_BUDGET: {"spec": {"minAvailable": WHOLE}},
    FRONTEND_CONFIG: {"spec": {"redirectToHttps": WHOLE}},
    INGRESS: {
        "metadata": {
            "annotations": Names(
                _one_of(
                    CLASS_ANNOTATION,
                    "kubernetes.io/ingress.global-static-ip-name",
                    "kubernetes.io/ingress.regional-static-ip-name",
                    "networking.gke.io/managed-certificates",
                    "networking.gke.io/v1beta1.FrontendConfig",
                )
            )
        },
        "spec": {"ingressClassName": WHOLE, "tls": WHOLE},
    },
    SERVICE: {
        "metadata": {"annotations": Names(_one_of("cloud.google.com/backend-config"))},
        "spec": dict.fromkeys(_OF_OTHER_SERVICES, WHOLE),
    },
}
"""Of the kinds that are not named here, all that is the operator's is always declared."""
