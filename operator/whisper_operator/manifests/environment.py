"""The server's configuration: one environment variable for each spec field that concerns it."""

from whisper_operator.spec.endpoint import WhisperEndpoint

SCRATCH, MODELS, KEYS = "/tmp", "/models", "/etc/whisper/api-keys"
"""Where the pod's volumes are mounted: what may be written, weights, and one file for each API key."""

CACHES = ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


def of(endpoint: WhisperEndpoint, *, http_port: int, ops_port: int) -> list[dict[str, str]]:
    """As a container's `env`: the operator's variables first, then the user's own, which may move the caches."""
    limits, defaults, public = endpoint.limits, endpoint.defaults, endpoint.public
    values = {
        "WHISPER_MODEL": endpoint.model,
        "WHISPER_MODEL_DIR": MODELS if endpoint.model_volume else None,
        "WHISPER_ENGINE": endpoint.engine,
        "WHISPER_DTYPE": endpoint.compute_type,
        "WHISPER_DEVICE": "cuda" if endpoint.gpu else "cpu",
        "WHISPER_PORT": str(http_port),
        "WHISPER_OPS_PORT": str(ops_port),
        "WHISPER_MAX_UPLOAD_BYTES": str(limits.max_upload_bytes),
        "WHISPER_MAX_AUDIO_SECONDS": str(limits.max_audio_seconds),
        "WHISPER_MAX_QUEUE": str(limits.max_queue),
        "WHISPER_REQUEST_TIMEOUT_SECONDS": str(limits.request_timeout_seconds),
        # In a pod the server counts on the two that Google's load balancer writes; other controllers' proxies write one.
        "WHISPER_PROXIES": "1" if public and not public.on_gke else None,
        "WHISPER_LOG_FORMAT": "json",
        "WHISPER_LANGUAGE": defaults.language,
        "WHISPER_TASK": defaults.task,
        "WHISPER_PROMPT": defaults.prompt,
        "WHISPER_VAD": "true" if defaults.vad else None,
        "WHISPER_API_KEYS_DIR": KEYS if endpoint.keys_secret else None,
        "WHISPER_CORS_ORIGINS": None if endpoint.cors_origins is None else ",".join(endpoint.cors_origins),
        **dict.fromkeys(CACHES, SCRATCH),
        **{item["name"]: item["value"] for item in endpoint.scheduling.env},
    }
    return [{"name": name, "value": _literal(value)} for name, value in values.items() if value is not None]


def _literal(value: str) -> str:
    """Kubernetes expands $(NAME) in values; what users write here is meant to the letter."""
    return value.replace("$", "$$")
