"""The engine on openai-whisper itself: each file is one call of its `model.transcribe`."""

import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whisper_server import weights
from whisper_server.config import Settings
from whisper_server.engine import DeviceLost, LoadError, ModelInfo, Samples
from whisper_server.options import Options
from whisper_server.scheduler import Stopped
from whisper_server.transcript import Segment, Transcript, Word


class OpenAIWhisper:
    """A loaded openai-whisper model. For the thread that made it only."""

    def __init__(self, model: Any, *, fp16: bool, description: str) -> None:
        self.description = description
        dims = model.dims
        self.info = ModelInfo(
            name=description.split()[0],
            n_mels=dims.n_mels,
            n_audio_ctx=dims.n_audio_ctx,
            n_text_ctx=dims.n_text_ctx,
            is_multilingual=model.is_multilingual,
            num_languages=model.num_languages,
        )
        self._model = model
        self._fp16 = fp16
        self._stop: Callable[[], bool] = lambda: False
        # transcribe() can't be interrupted, but it runs the encoder for each window and the decoder for each
        # token: that is often enough to look up.
        for module in (model.encoder, model.decoder):
            module.register_forward_pre_hook(self._look_up)

    def _look_up(self, *_: object) -> None:
        if self._stop():
            raise Stopped

    def transcribe(
        self, samples: Samples, options: Options, stop: Callable[[], bool], **extra: Any
    ) -> Transcript:
        """Transcribe as openai-whisper does; `extra` are more options of its `transcribe`."""
        self._stop = stop
        # The fallback to higher temperatures samples from torch's global generator: begin each file alike, so
        # that its transcript does not depend on what came before it.
        torch.manual_seed(0)
        try:
            with warnings.catch_warnings():
                # Said by openai-whisper for every file where a GPU is there and the CPU was asked for.
                warnings.filterwarnings("ignore", "Performing inference on CPU when CUDA is available")
                result = self._model.transcribe(
                    samples.astype(np.float32) / 32768.0,
                    language=options.language,
                    task=options.task,
                    initial_prompt=_plain(options.initial_prompt),
                    temperature=options.temperatures,
                    word_timestamps=options.word_timestamps,
                    fp16=self._fp16,
                    **extra,
                )
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            raise
        except torch.AcceleratorError as problem:
            raise DeviceLost(str(problem).splitlines()[0]) from problem
        return Transcript(
            text=result["text"].strip(),
            language=result["language"],
            duration=len(samples) / 16000,
            segments=tuple(_segment(segment) for segment in result["segments"]),
        )


def _segment(raw: dict[str, Any]) -> Segment:
    words = raw.get("words")
    made = (
        None
        if words is None
        else tuple(Word(**{**word, "probability": float(word["probability"])}) for word in words)
    )
    return Segment(**{**raw, "tokens": tuple(raw["tokens"]), "words": made})


def _plain(prompt: str | None) -> str | None:
    """Break up the control tokens, such as <|endoftext|>, that the tokenizer refuses to take for text."""
    return prompt and prompt.replace("<|", "< |")


def load(settings: Settings) -> OpenAIWhisper:
    """Load and warm up the model that `settings` ask for; raises LoadError."""
    device = choose_device(settings.device)
    if device == "cpu":
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(usable_cpus())
        if settings.dtype == "float16":
            raise LoadError("WHISPER_DTYPE=float16 needs CUDA, and there is none; use float32 or auto")
    fp16 = device == "cuda" and settings.dtype != "float32"
    try:
        model = weights.load(settings.model, device, settings.model_dir)
        if settings.language not in (None, "en") and not model.is_multilingual:
            raise LoadError(
                f"WHISPER_LANGUAGE={settings.language}: the model {settings.model} knows English only"
            )
        description = f"{settings.model} on {device} in {'float16' if fp16 else 'float32'}"
        engine = OpenAIWhisper(model, fp16=fp16, description=description)
        # Kernels are chosen and memory is taken at first use: let that be now. One second of silence, few
        # tokens; a language is given because detecting one is not worth warming up.
        silence = np.zeros(16000, np.int16)
        engine.transcribe(silence, Options(language="en"), lambda: False, sample_len=4)
    except (torch.OutOfMemoryError, MemoryError) as problem:
        where = "GPU" if device == "cuda" else "machine"
        raise LoadError(
            f"the model {settings.model} does not fit into the {where}'s memory; "
            f"use a smaller model or a larger {where}: {' '.join(str(problem).split())}"
        ) from problem
    return engine


def choose_device(wanted: str) -> str:
    """Return "cuda" or "cpu" for "auto", "cuda" or "cpu"; raises LoadError where "cuda" is unusable."""
    if wanted == "cpu":
        return "cpu"
    try:
        torch.zeros(1, device="cuda")  # fails where is_available() is content: a driver too old, no memory
    except (RuntimeError, AssertionError) as problem:
        if wanted == "auto":
            return "cpu"
        reason = " ".join(str(problem).split(". ")[0].split())
        raise LoadError(
            f"WHISPER_DEVICE=cuda, but CUDA can't be used: {reason}; NVIDIA driver here: {driver_version()}; "
            f"this torch {torch.__version__} is built for CUDA {torch.version.cuda}. "
            "Install a driver for that CUDA, a torch for that driver, or set WHISPER_DEVICE=cpu"
        ) from None
    return "cuda"


def driver_version(path: Path = Path("/proc/driver/nvidia/version")) -> str:
    """The version of the loaded NVIDIA driver, such as "580.65.06", or "none"."""
    try:
        words = path.read_text().splitlines()[0].split()
    except (OSError, IndexError):
        return "none"
    return next((word for word in words if word[0].isdigit() and "." in word), "unknown")


def usable_cpus(path: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """How many CPUs this process may keep busy: a container's limit, not the machine's core count."""
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = path.read_text().split()
        return cpus if quota == "max" else max(1, min(cpus, math.floor(int(quota) / int(period))))
    except (OSError, ValueError):
        return cpus
