"""What the server counts, for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "whisper_requests", "Requests answered", ["endpoint", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "whisper_request_seconds",
            "Time of transcription requests that were answered with 200, waiting included",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.decode_seconds = Histogram(
            "whisper_decode_seconds", "Time ffmpeg took for a file", buckets=_SECONDS, registry=self.registry
        )
        self.audio_seconds = Counter(
            "whisper_audio_seconds", "Seconds of audio transcribed", registry=self.registry
        )

        self.queue_seconds = Histogram(
            "whisper_queue_seconds",
            "Time that requests waited for their turn, at ffmpeg and at the device",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.client_requests = Counter(
            "whisper_client_requests",
            "Requests answered, by the name of the API key; empty: none was needed or given",
            ["client", "status"],
            registry=self.registry,
        )
        self.client_audio_seconds = Counter(
            "whisper_client_audio_seconds",
            "Seconds of audio transcribed, by the name of the API key",
            ["client"],
            registry=self.registry,
        )

    def describe(self, **what: str) -> None:
        """Say what runs here, as labels."""
        Info("whisper_build", "What runs here", registry=self.registry).info(what)

    def watch(
        self,
        in_flight: Callable[[], int],
        ready: Callable[[], bool],
        queued_bytes: Callable[[], int],
        queued_audio: Callable[[], float],
    ) -> None:
        """Report the values of functions as gauges, asked at each scrape."""
        Gauge(
            "whisper_queue_bytes", "Bytes of uploads being received and decoded", registry=self.registry
        ).set_function(queued_bytes)
        Gauge(
            "whisper_queue_audio_seconds",
            "Seconds of audio of requests decoded and not yet answered",
            registry=self.registry,
        ).set_function(queued_audio)
        Gauge(
            "whisper_requests_in_flight", "Requests accepted and not yet answered", registry=self.registry
        ).set_function(in_flight)
        Gauge("whisper_ready", "1 while requests are accepted, else 0", registry=self.registry).set_function(
            ready
        )
