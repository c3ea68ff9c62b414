"""The dashboard of endpoints: requests, the engine, and what an hour of audio costs."""

from deploy.monitoring.grafana import Json, Panel, Row, choice, dashboard, number

RATE = "[$__rate_interval]"
HOUR = "[1h]"
CHOSEN = 'namespace=~"$namespace", whisper_endpoint=~"$endpoint"'
WHOSE = "{{namespace}}/{{whisper_endpoint}}"


def by(expression: str, *labels: str) -> str:
    """Summed over the pods of each endpoint."""
    return f"sum by ({', '.join(('namespace', 'whisper_endpoint', *labels))}) ({expression})"


def gauge(name: str, more: str = "") -> str:
    return f"whisper_{name}{{{CHOSEN}{more}}}"


def rate(name: str, more: str = "", window: str = RATE) -> str:
    return f"rate({gauge(name, more)}{window})"


def over(numerator: str, denominator: str) -> str:
    return f"{by(numerator)} / {by(denominator)}"


def quantile(share: float, histogram: str) -> str:
    return f"histogram_quantile({share}, {by(rate(f'{histogram}_bucket'), 'le')})"


def share(status: str) -> str:
    """Of all requests; 0 where none ended so."""
    requests = by(rate("requests_total"))
    ended = by(rate("requests_total", f', status=~"{status}"'))
    return f"({ended} or 0 * {requests}) / {requests}"


def device(window: str = RATE) -> str:
    """Seconds of the device's work in a second of time, of all pods."""
    return f"({by(rate('engine_step_seconds_total', window=window))} + {by(rate('engine_encode_seconds_total', window=window))})"


REQUESTS = Row(
    "Requests",
    (
        Panel(
            "Pods that take requests",
            "0: the endpoint serves nothing. kubectl describe wep says why.",
            ((by(gauge("ready")), WHOSE),),
            kind="stat",
        ),
        Panel(
            "Requests by status",
            "429: the queue is full. 503: not ready, or not done in time. 4xx else: the clients' own.",
            ((f"sum by (status) ({rate('requests_total')})", "{{status}}"),),
            unit="reqps",
        ),
        Panel(
            "Share that fails, share that is refused",
            "5xx and 429 of all requests. Alerts fire at 5 %.",
            ((share("5.."), f"{WHOSE} 5xx"), (share("429"), f"{WHOSE} 429")),
            unit="percentunit",
        ),
        Panel(
            "Seconds of a request",
            "Of those answered with 200, waiting included. They grow with the audio's length: the next panel does not.",
            (
                (quantile(0.5, "request_seconds"), f"{WHOSE} half"),
                (quantile(0.95, "request_seconds"), f"{WHOSE} 95 %"),
            ),
            unit="s",
        ),
        Panel(
            "Seconds of a request for a second of audio",
            "What users wait, whatever the length of their files. Above 1, a file takes longer than to listen to it.",
            ((over(rate("request_seconds_sum"), rate("audio_seconds_total")), WHOSE),),
            unit="s",
        ),
        Panel(
            "Seconds of waiting",
            "For ffmpeg and for the device: if this grows, more comes in than the GPUs do.",
            (
                (quantile(0.5, "queue_seconds"), f"{WHOSE} half"),
                (quantile(0.95, "queue_seconds"), f"{WHOSE} 95 %"),
            ),
            unit="s",
        ),
        Panel(
            "Requests in flight",
            "What autoscaling goes by. At limits.maxQueue on each pod, the next one gets 429.",
            ((by(gauge("requests_in_flight")), WHOSE),),
        ),
        Panel(
            "Audio that waits or is worked on",
            "Decoded and not yet answered.",
            ((by(gauge("queue_audio_seconds")), WHOSE),),
            unit="s",
        ),
        Panel(
            "Uploads under way",
            "Received and decoded now. High with few requests: slow clients.",
            ((by(gauge("queue_bytes")), WHOSE),),
            unit="bytes",
        ),
        Panel(
            "Audio by client",
            "Seconds of audio in a second, by the name of the API key: whose load it is.",
            ((f"sum by (client) ({rate('client_audio_seconds_total')})", "{{client}}"),),
        ),
        Panel(
            "Requests by client",
            "By the name of the API key; no name: none was needed or given.",
            ((f"sum by (client) ({rate('client_requests_total')})", "{{client}}"),),
            unit="reqps",
        ),
        Panel(
            "Seconds of ffmpeg for a file, 95 %",
            "On the CPU. If this grows, the pod's CPU is too small.",
            ((quantile(0.95, "decode_seconds"), WHOSE),),
            unit="s",
        ),
    ),
)

ENGINE = Row(
    "Engine",
    (
        Panel(
            "Real-time factor",
            "Seconds of audio that a second of the device's work transcribes: how fast it is, however idle.",
            ((f"{by(rate('audio_seconds_total'))} / {device()}", WHOSE),),
        ),
        Panel(
            "Rows a step",
            "Windows that share a pass of the decoder, on average. More is cheaper; at the places for windows, it is full.",
            ((over(rate("engine_step_rows_total"), rate("engine_steps_total")), WHOSE),),
        ),
        Panel(
            "Places for windows",
            "taken and free, over all pods.",
            ((by(gauge("engine_windows"), "state"), f"{WHOSE} {{{{state}}}}"),),
        ),
        Panel(
            "Windows that wait",
            "To be encoded. Above 0 all the time: the device is the bottleneck.",
            ((by(gauge("windows_waiting")), WHOSE),),
        ),
        Panel(
            "Share of the time that the device works",
            "2 pods that are busy all the time are 200 %. The encoder's is short on a GPU, which is only told what to do.",
            (
                (by(rate("engine_step_seconds_total")), f"{WHOSE} decoder"),
                (by(rate("engine_encode_seconds_total")), f"{WHOSE} encoder"),
            ),
            unit="percentunit",
        ),
        Panel(
            "Windows and tokens",
            "In a second.",
            (
                (by(rate("windows_total")), f"{WHOSE} windows"),
                (by(rate("engine_encoded_windows_total")), f"{WHOSE} windows encoded"),
                (by(rate("tokens_total")), f"{WHOSE} tokens"),
            ),
        ),
        Panel(
            "Windows tried again",
            "For each window, by the threshold that was missed: music, noise or a wrong language cost double.",
            (
                (
                    f"{by(rate('fallbacks_total'), 'reason')} / on (namespace, whisper_endpoint) group_left "
                    f"{by(rate('windows_total'))}",
                    f"{WHOSE} {{{{reason}}}}",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            "Memory of the device",
            "That the engine holds, where it is known.",
            ((by(gauge("engine_memory_bytes")), WHOSE),),
            unit="bytes",
        ),
        Panel(
            "Out of memory",
            "Passes that found too little. The server goes on with fewer windows.",
            ((by(f"increase({gauge('engine_out_of_memory_total')}{RATE})"), WHOSE),),
        ),
        Panel(
            "Memory of the pods",
            "The process's own; OutOfMemory comes at the container's limit.",
            (
                (
                    f"sum by (namespace, whisper_endpoint) (process_resident_memory_bytes{{{CHOSEN}}} "
                    "and on (namespace, instance) whisper_ready)",
                    WHOSE,
                ),
            ),
            unit="bytes",
        ),
        Panel(
            "What runs",
            "Pods by version, model, engine and device.",
            (
                (
                    f"count by (namespace, whisper_endpoint, version, model, engine, device) ({gauge('build_info')})",
                    f"{WHOSE} {{{{version}}}} {{{{model}}}} {{{{engine}}}} {{{{device}}}}",
                ),
            ),
            kind="stat",
        ),
    ),
)

COST = Row(
    "Cost",
    (
        Panel(
            "An hour of audio, as paid for",
            "In the last hour: what the pods cost, idle or not, for the audio they transcribed. A pod has one GPU.",
            (
                (
                    f"$price * (sum_over_time(count by (namespace, whisper_endpoint) ({gauge('ready')})[1h:15s]) / 240)"
                    f" / {by(rate('audio_seconds_total', window=HOUR))}",
                    WHOSE,
                ),
            ),
        ),
        Panel(
            "An hour of audio, by the device's work alone",
            "What it would cost if the device were never idle, with as many rows a step as now. On a GPU the encoder's part is "
            "underestimated.",
            ((f"$price * {device(HOUR)} / {by(rate('audio_seconds_total', window=HOUR))}", WHOSE),),
        ),
        Panel(
            "Hours of audio in the last hour",
            "Above the number of pods: faster than to listen to it.",
            ((f"{by(rate('audio_seconds_total', window=HOUR))}", WHOSE),),
        ),
    ),
)


def endpoints() -> Json:
    return dashboard(
        "whisper-operator: endpoints",
        "Requests, the engine and costs of endpoints. What to do: docs/monitoring.md.",
        (REQUESTS, ENGINE, COST),
        (
            choice("namespace", "Namespace", "label_values(whisper_ready, namespace)"),
            choice(
                "endpoint",
                "Endpoint",
                'label_values(whisper_ready{namespace=~"$namespace"}, whisper_endpoint)',
            ),
            number("price", "Price of a GPU-hour", "0.35"),
        ),
    )
