"""What sequences of changes are drawn from: specs, hands that meddle with children, and Google's side."""

from typing import Any

NAME = "w"
A, B = "a.example.com", "b.example.com"

FIELDS: dict[str, list[dict[str, Any]]] = {
    "size": [
        {},
        {"replicas": 1},
        {"replicas": 3},
        {"autoscaling": {"max": 3}},
        {"autoscaling": {"min": 2, "max": 4, "targetInFlight": 5}},
        {"suspend": True},
    ],
    "device": [
        {},
        {"device": "cpu"},
        {"accelerator": {"type": "nvidia-l4"}},
        {"accelerator": {"spot": True}},
        {"accelerator": {"type": "abacus"}},
    ],
    "public": [
        {},
        {"host": A, "staticIPName": "one"},
        {"host": A, "additionalHosts": [B]},
        {"host": B},
        {"host": A, "ingress": {"httpsRedirect": True}},
        {"host": A, "additionalHosts": [B], "ingress": {"httpsRedirect": True, "sslPolicy": "strict"}},
        {"host": A, "ingress": {"securityPolicy": "armor"}},
        {"host": A, "ingress": {"tls": {"mode": "none"}}},
        {"host": A, "ingress": {"tls": {"preSharedCert": "shared"}}},
        {"host": A, "ingress": {"class": "traefik", "tls": {"secretName": "tls"}}},
        {"host": A, "ingress": {"class": "gce-internal"}},
    ],
    "rollout": [{}, {"rollout": "Recreate"}],
    "model": [
        {},
        {"model": "turbo"},
        {"engine": "faster-whisper", "model": "small"},
        {"model": "base", "modelVolume": {"emptyDir": {"sizeLimit": "2Gi"}}},
    ],
    "other": [
        {},
        {"limits": {"requestTimeoutSeconds": 120}},
        {"cors": {"allowedOrigins": ["https://example.com"]}},
        {"defaults": {"language": "de", "vad": True}},
        {"auth": {"secretName": "keys"}},
        {"resources": {"requests": {"cpu": "1500m", "memory": "4Gi"}}},
        {"scheduling": {"podLabels": {"team": "x"}, "env": [{"name": "LEVEL", "value": "1"}]}},
    ],
}
"""Parts of a spec; those of one name exclude each other, all else goes together."""

BROKEN = {"accelerator": {"type": "abacus"}}

EDITS: list[tuple[str, dict[str, Any]]] = [
    ("deployment", {"spec": {"template": {"spec": {"enableServiceLinks": True}}}}),
    ("deployment", {"spec": {"replicas": 5}}),
    ("deployment", {"spec": {"template": {"spec": {"containers": [{"name": "renamed", "image": "x"}]}}}}),
    ("deployment", {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}}),
    ("deployment", {"metadata": {"annotations": {"whisper-operator.io/applied-hash": None}}}),
    ("deployment", {"spec": {"template": {"spec": {"tolerations": [{"operator": "Exists"}]}}}}),
    (
        "deployment",
        {"spec": {"template": {"spec": {"volumes": [{"name": "tmp", "hostPath": {"path": "/"}}]}}}},
    ),
    ("deployment", {"metadata": {"ownerReferences": []}}),
    ("service", {"spec": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8"]}}),
    ("ingress", {"spec": {"tls": [{"secretName": "nope"}], "ingressClassName": "nginx"}}),
    ("poddisruptionbudget", {"spec": {"minAvailable": 1, "maxUnavailable": None}}),
    ("service", {"spec": {"selector": {"whisper-operator.io/endpoint": "x"}}}),
    ("service", {"spec": {"ports": [{"name": "other", "port": 8001}]}}),
    ("service", {"metadata": {"annotations": {"cloud.google.com/neg": None}}}),
    ("service", {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}),
    ("service", {"metadata": {"labels": {"whisper-operator.io/endpoint": "other"}}}),
    ("ingress", {"spec": {"rules": [{"host": "c.example.com"}]}}),
    ("ingress", {"metadata": {"annotations": {"networking.gke.io/managed-certificates": "other"}}}),
    ("backendconfig", {"spec": {"timeoutSec": 30}}),
    ("frontendconfig", {"spec": {"redirectToHttps": {"enabled": False}}}),
    ("networkpolicy", {"spec": {"ingress": []}}),
    ("horizontalpodautoscaler", {"spec": {"maxReplicas": 9}}),
    ("poddisruptionbudget", {"spec": {"maxUnavailable": 3}}),
    ("managedcertificate", {"spec": {"domains": ["c.example.com"]}}),
    ("podmonitoring", {"spec": {"endpoints": [{"port": "other", "interval": "10s"}]}}),
]
KINDS = sorted({kind for kind, _ in EDITS})

CLOUD: list[dict[str, str]] = [
    {},
    {"certificates": "Provisioning"},
    {"certificates": "FailedNotVisible"},
    {"certificates": "RenewalFailed"},
    {f"certificate.{B}": "FailedCaaForbidden"},
    {"noAddress": "true"},
]
"""Faults of Google's side."""
SOON = {"certificateSeconds": "0.3", "addressSeconds": "0.2", "negSeconds": "0.1", "finalizerSeconds": "0.3"}

POLICIES: list[dict[str, Any]] = [
    {},
    {"preset": "multi-tenant"},
    {"everywhere": {"hosts": []}},
    {"everywhere": {"accelerators": ["nvidia-l4"], "registries": []}},
    {"everywhere": {"ceilings": {"endpoint": {"replicas": 1}, "namespace": {"gpus": 1}}}},
    {"ceilings": {"gpus": 2}},
    {"namespaces": {"default": {"defaults": {"model": "turbo"}}}},
    {"everywhere": {"host": []}},
]
"""The last makes no sense."""
