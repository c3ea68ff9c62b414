"""What a Prometheus is told of the operator. Counted where it happens, served by health.py; here is what the client counts."""

from prometheus_client import CollectorRegistry, Counter, ProcessCollector

REGISTRY = CollectorRegistry()
"""Ours alone: what the library adds to its global one (such as its own platform) helps nobody here."""

ProcessCollector(registry=REGISTRY)

WRITES = Counter(
    "whisper_operator_writes",
    "Writes that the API server took: apply, hand over (of fields that others had), scale, delete, status or event.",
    ["verb", "kind"],
    registry=REGISTRY,
)
REQUEST_ERRORS = Counter(
    "whisper_operator_request_errors",
    "Requests to the API server that failed, by its answer: refused, conflict or unavailable.",
    ["reason"],
    registry=REGISTRY,
)
