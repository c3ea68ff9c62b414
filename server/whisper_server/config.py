"""Settings: read from the environment once, at the start, into one frozen record.

Why here and nowhere else: a wrong value must stop the start with a line that says what to write instead,
not fail the first request an hour later. So this module imports nothing heavy (no torch, no whisper): it
answers at once, and the lists below are held equal to openai-whisper's own by a test.

Each field of `Settings` is the environment variable `WHISPER_` + its name in capitals. An empty value
counts as absent, as manifests often pass one, except that an empty list of origins allows none; an unknown
WHISPER_* is warned of in the log.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import PurePosixPath
from typing import Any, Self

from whisper_server.languages import NAMES as LANGUAGES

MODELS = (
    *("tiny.en", "tiny", "base.en", "base", "small.en", "small", "medium.en", "medium"),
    *("large-v1", "large-v2", "large-v3", "large", "large-v3-turbo", "turbo"),
)
MAX_PROMPT_CHARACTERS = 4096
_IN_A_POD = "KUBERNETES_SERVICE_HOST"


class ConfigError(ValueError):
    """A setting that makes no sense. The message is one line that names the variable and what it may be."""


def _text(value: str) -> str:
    return value


def _model(value: str) -> str:
    if value in (*MODELS, "demo") or PurePosixPath(value).is_absolute():
        return value
    raise ValueError(f"must be demo, an absolute path of a checkpoint, or one of {', '.join(MODELS)}")


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"must be {' or '.join(allowed)}")
        return value

    return parse


def _boolean(value: str) -> bool:
    return _choice("true", "false")(value) == "true"


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        # Not int(): it takes "1_000", " 7 " and digits of other scripts.
        if not re.fullmatch("[0-9]{1,13}", value) or not low <= int(value) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(value)

    return parse


def _language(value: str) -> str:
    if value not in LANGUAGES:
        raise ValueError("must be a language code that Whisper knows, such as en, de or zh")
    return value


def _prompt(value: str) -> str:
    return value[-MAX_PROMPT_CHARACTERS:]


def _origins(value: str) -> tuple[str, ...]:
    origins = tuple(part.strip() for part in value.split(",")) if value else ()
    for origin in origins:
        if origin != "*" and not re.fullmatch(r"https?://[^/\s,]+", origin):
            raise ValueError(
                f"must be * or a comma-separated list like https://app.example.com; {origin!r} is no origin"
            )
    return origins


def _directory(value: str) -> str:
    if not PurePosixPath(value).is_absolute():
        raise ValueError("must be an absolute path of a directory")
    return value


def _setting(default: Any, parse: Callable[[str], Any], meaning: str) -> Any:
    return field(default=default, metadata={"parse": parse, "meaning": meaning})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one server was told. Sizes in bytes, times in seconds."""

    model: str = _setting(
        "large-v3", _model, "an official model's name, `demo`, or the absolute path of a checkpoint"
    )
    model_dir: str | None = _setting(
        None, _directory, "where official models lie or are downloaded to; default: openai-whisper's cache"
    )
    engine: str = _setting(
        "openai-whisper",
        _choice("openai-whisper", "faster-whisper"),
        "`openai-whisper` (torch) or `faster-whisper` (CTranslate2)",
    )
    device: str = _setting(
        "auto", _choice("auto", "cuda", "cpu"), "`auto`, `cuda` or `cpu`; `cuda` never falls back to the CPU"
    )
    dtype: str = _setting(
        "auto",
        _choice("auto", "float32", "float16", "bfloat16", "int8", "int8_float16"),
        "`auto` (float16 on CUDA, float32 on the CPU; by CTranslate2 int8_float16 and int8), `float32`, "
        "`float16` (CUDA only), `bfloat16`, `int8` or `int8_float16`; "
        "not every engine and device takes each",
    )
    language: str | None = _setting(None, _language, "code of the language spoken; default: detected")
    detect: str = _setting(
        "exact",
        _choice("exact", "fast"),
        "how a language is detected: `exact` as openai-whisper does, which encodes a file shorter than 30 s twice, "
        "or `fast` from the window that is transcribed",
    )
    task: str = _setting(
        "transcribe", _choice("transcribe", "translate"), "`transcribe`, or `translate` (into English)"
    )
    prompt: str | None = _setting(
        None, _prompt, "text that precedes the speech: names, spelling, style (its last 4096 characters)"
    )
    vad: bool = _setting(False, _boolean, "`true`: transcribe only what has a voice in it; `false`: all")
    api_keys_dir: str | None = _setting(
        None,
        _directory,
        "a mounted Secret: each file is an API key, its name the client's in logs and metrics; default: no keys needed",
    )
    max_upload_bytes: int = _setting(26214400, _integer(1024, 2**40), "largest request body; above: 413")
    max_audio_seconds: int = _setting(
        7200, _integer(1, 86400), "most seconds of audio in one request, all its files together; above: 413"
    )
    max_queue: int = _setting(
        32,
        _integer(1, 1024),
        "requests accepted and not yet answered; the next one gets 429 and Retry-After, unless its client has no other: "
        "for such clients a quarter more, of this and of the next two",
    )
    max_queue_bytes: int | None = _setting(
        None,
        _integer(1024, 2**40),
        "bytes of the uploads being received and decoded; above: 429; default: 4 of the largest, or WHISPER_MAX_QUEUE / 4",
    )
    max_queue_audio_seconds: int | None = _setting(
        None,
        _integer(1, 2**31),
        "seconds of audio of requests decoded and not yet answered; above: 429; default: twice WHISPER_MAX_AUDIO_SECONDS",
    )
    request_timeout_seconds: int = _setting(
        600, _integer(1, 86400), "longest time of one request, waiting included; also the time to drain"
    )
    stall_seconds: int | None = _setting(
        None,
        _integer(1, 86400),
        "work waits and the device computes nothing for so long: it hangs, and /healthz fails; "
        "default: 60 with WHISPER_DEVICE=cuda, else 300, as a CPU may take minutes for a large model's windows",
    )
    proxies: int = _setting(
        0,
        _integer(0, 10),
        "how many of the last entries of X-Forwarded-For come from proxies that stand before the server: the first of those "
        "is the client; 0: the peer is; 2: Google's load balancer, which adds the client's address and its own. "
        "In a pod of Kubernetes, 2 is the default",
    )
    cors_origins: tuple[str, ...] = _setting(
        ("*",), _origins, "browser origins that may call, separated by commas, or `*`; empty: none"
    )
    port: int = _setting(8000, _integer(1, 65535), "port of the API")
    ops_port: int = _setting(9090, _integer(1, 65535), "port of /healthz, /readyz and /metrics")
    bind: str = _setting("0.0.0.0", _text, "address that both ports listen on")
    log_format: str = _setting("plain", _choice("plain", "json"), "`plain`, or `json`: one object a line")

    @property
    def queue_bytes(self) -> int:
        """WHISPER_MAX_QUEUE_BYTES, or what follows from the other limits; one upload always has room."""
        derived = max(4, self.max_queue // 4) * self.max_upload_bytes
        return max(self.max_queue_bytes or derived, self.max_upload_bytes)

    @property
    def queue_audio_seconds(self) -> int:
        """WHISPER_MAX_QUEUE_AUDIO_SECONDS, or what follows from the other limits."""
        return max(self.max_queue_audio_seconds or 2 * self.max_audio_seconds, self.max_audio_seconds)

    @property
    def most_stall_seconds(self) -> int:
        """WHISPER_STALL_SECONDS, or what follows from the device."""
        return self.stall_seconds or (60 if self.device == "cuda" else 300)

    @property
    def keeps_memory(self) -> bool:
        """Whether memory that the engine gives back is kept for its next call: CTranslate2 on a CPU asks for it each time."""
        return self.engine == "faster-whisper" and self.device != "cuda"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Parse the environment; raises ConfigError with one line that names the variable."""
        values = {}
        for entry in fields(cls):
            text = environ.get(variable(entry))
            if text is None or (text == "" and entry.name != "cors_origins"):
                continue
            if entry.name.endswith("port") and re.fullmatch(r"(tcp|udp|sctp)://\S+", text):
                continue  # Kubernetes says so of a Service that is called whisper, or whisper-ops
            try:
                values[entry.name] = entry.metadata["parse"](text)
            except ValueError as problem:
                raise ConfigError(f"{variable(entry)}={text!r}: {problem}") from None
        if _IN_A_POD in environ:
            # As the operator runs it. Elsewhere, whoever calls could write there what they like.
            values.setdefault("proxies", 2)
        settings = cls(**values)
        settings._check_combinations()
        return settings

    def _check_combinations(self) -> None:
        english_only = self.model.endswith(".en")
        if english_only and self.language not in (None, "en"):
            raise ConfigError(
                f"WHISPER_LANGUAGE={self.language!r}: the model {self.model} knows English only; "
                f"use {self.model.removesuffix('.en')}"
            )
        if self.task == "translate" and (english_only or self.model in ("turbo", "large-v3-turbo")):
            raise ConfigError(
                f"WHISPER_TASK='translate': the model {self.model} does not translate; use large-v3 or medium"
            )
        if self.dtype in ("float16", "int8_float16") and self.device == "cpu":
            raise ConfigError(f"WHISPER_DTYPE={self.dtype!r}: not possible on the CPU; use float32 or auto")
        if self.port == self.ops_port:
            raise ConfigError(f"WHISPER_OPS_PORT={self.ops_port}: must differ from WHISPER_PORT")


def variable(entry: "Field[Any]") -> str:
    """The environment variable of one field of Settings."""
    return f"WHISPER_{entry.name.upper()}"


def unknown(environ: Mapping[str, str]) -> list[str]:
    """A line for each variable that looks like a setting and is none."""
    known = [variable(entry) for entry in fields(Settings)]
    # Kubernetes sets these for a Service that is called whisper or whisper-something.
    link = r"(_SERVICE_(HOST|PORT)(_\w+)?|_PORT(_[0-9]+_(TCP|UDP|SCTP)(_\w+)?)?)"
    names = [name for name in environ if name.startswith("WHISPER_") and name not in known]
    lines = []
    for name in sorted(name for name in names if not re.fullmatch(rf"WHISPER(_\w+)?{link}", name)):
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        hint = f"is {close[0]} meant?" if close else "whisper-server --help lists them"
        lines.append(f"{name} is not a setting and changes nothing; {hint}")
    return lines


def table() -> list[tuple[str, str, str]]:
    """Every setting as (variable, default as one would write it, meaning): for --help and the README."""
    rows = []
    for entry in fields(Settings):
        default = ",".join(entry.default) if isinstance(entry.default, tuple) else entry.default
        shown = "" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
        rows.append((variable(entry), shown, entry.metadata["meaning"]))
    return rows
