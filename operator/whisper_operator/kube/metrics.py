"""What a Prometheus is told of the operator. Counted where it happens, served by health.py."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()
"""Ours alone: what the library adds to its global one (such as its own platform) helps nobody here."""

RECONCILES = Counter(
    "whisper_operator_reconciles",
    "Looks at an endpoint, by what came of them: done, retry (something passing was in the way) or error (a bug).",
    ["result"],
    registry=REGISTRY,
)
RECONCILE_SECONDS = Histogram(
    "whisper_operator_reconcile_seconds",
    "How long a look at an endpoint took, its writes included.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    registry=REGISTRY,
)
QUEUE_DEPTH = Gauge(
    "whisper_operator_queue_depth", "Endpoints that wait for a worker or are with one.", registry=REGISTRY
)
RETRIES = Gauge(
    "whisper_operator_retries", "Endpoints that wait to be tried again after a failure.", registry=REGISTRY
)
WRITES = Counter(
    "whisper_operator_writes",
    "Writes that the API server took: apply, repair (of a list), delete, status or event.",
    ["verb", "kind"],
    registry=REGISTRY,
)
REQUEST_ERRORS = Counter(
    "whisper_operator_request_errors",
    "Requests to the API server that failed, by its answer: refused, conflict or unavailable.",
    ["reason"],
    registry=REGISTRY,
)
ENDPOINTS = Gauge(
    "whisper_operator_endpoints",
    "WhisperEndpoints in the cluster by readiness: ready, progressing, suspended or stalled.",
    ["readiness"],
    registry=REGISTRY,
)
DEAD_WATCHES = Gauge(
    "whisper_operator_dead_watches",
    "Kinds whose watch reports nothing any more; /healthz fails then.",
    registry=REGISTRY,
)
