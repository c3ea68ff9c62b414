"""What scheduling and the engine know, as Prometheus has it."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from whisper_server.scheduling.scheduler import Scheduler


class SchedulerCollector(Collector):
    """Asks a scheduler at each scrape: nothing is counted twice, and nothing is kept here."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        stats, tally = self._scheduler.stats, self._scheduler.tally
        yield CounterMetricFamily("whisper_windows", "Windows of 30 seconds transcribed", tally.windows)
        yield CounterMetricFamily(
            "whisper_tokens", "Tokens of all texts, of those tried again too", tally.tokens
        )
        fallbacks = CounterMetricFamily(
            "whisper_fallbacks",
            "Windows tried again at a higher temperature, by the threshold that was not kept",
            labels=["reason"],
        )
        for reason in ("compression_ratio", "logprob"):
            fallbacks.add_metric([reason], tally.fallbacks[reason])
        yield fallbacks
        yield GaugeMetricFamily(
            "whisper_windows_waiting", "Windows that wait to be encoded", self._scheduler.windows_waiting
        )
        windows = GaugeMetricFamily("whisper_engine_windows", "Places for windows", labels=["state"])
        windows.add_metric(["taken"], stats.windows_taken)
        windows.add_metric(["free"], max(0, self._scheduler.windows - stats.windows_taken))
        yield windows
        yield CounterMetricFamily("whisper_engine_encoded_windows", "Windows encoded", stats.encoded)
        yield CounterMetricFamily(
            "whisper_engine_encode_seconds",
            "Time of the encoder, on a GPU of telling it what to do",
            stats.encode_seconds,
        )
        yield CounterMetricFamily(
            "whisper_engine_steps", "Passes of the decoder, each a token for every row", stats.steps
        )
        yield CounterMetricFamily(
            "whisper_engine_step_rows", "Rows of those passes together", stats.step_rows
        )
        yield CounterMetricFamily("whisper_engine_step_seconds", "Time of those passes", stats.step_seconds)
        yield CounterMetricFamily(
            "whisper_engine_out_of_memory", "Passes that found too little memory", stats.out_of_memory
        )
        if stats.memory_bytes:
            yield GaugeMetricFamily(
                "whisper_engine_memory_bytes", "The device's memory that the engine holds", stats.memory_bytes
            )
