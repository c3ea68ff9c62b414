"""From settings to a warm engine on CTranslate2."""

import ctypes
import os
import tempfile
from pathlib import Path

# Read by CTranslate2 when it is imported. Left to itself it uses half of what AMD's processors can do; without AVX-512 it says so
# and goes on as it would have.
if "avx512bw" in Path("/proc/cpuinfo").read_text():
    os.environ.setdefault("CT2_FORCE_CPU_ISA", "AVX512")

import ctranslate2
import numpy as np
from ctranslate2.models import Whisper

from whisper_server.cgroup import usable_cpus
from whisper_server.config import Settings
from whisper_server.engine.checkpoint import is_turbo
from whisper_server.engine.ctranslate2 import convert, spec
from whisper_server.engine.ctranslate2.engine import FasterWhisper
from whisper_server.engine.hardware import driver_version, free_memory
from whisper_server.engine.interface import Answer, Decode, Encode, LoadError, ModelInfo

CALLS_AT_ONCE = {"cuda": 1, "cpu": 2}
"""Of a CPU, two get a sixth more done than one (docs/benchmarks): one uses what the other leaves idle."""
ENCODE_AT_ONCE = {"cuda": 8, "cpu": 1}
"""Windows to an encoder's run; beside another call, a second saves a CPU nothing."""
DECODE_AT_ONCE = {"cuda": 32, "cpu": 16}
"""Where more rows in a call stop to pay."""
SPARE_MEMORY = 1 << 30
"""Bytes left for what comes and goes while it computes."""
COMPUTE_TYPES = {"cuda": "int8_float16", "cpu": "int8"}
"""What "auto" means."""


def load(settings: Settings) -> FasterWhisper:
    """Load and warm up the model that `settings` ask for; raises LoadError."""
    device = choose_device(settings.device)
    compute_type = _compute_type(settings.dtype, device)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            source = convert.find(settings.model, settings.model_dir, Path(scratch))
            engine = make_engine(source, settings.model, compute_type, device)
        _warm_up(engine)
    except (MemoryError, RuntimeError) as problem:
        where = "GPU" if device == "cuda" else "machine"
        raise LoadError(
            f"the model {settings.model} can't be loaded; if the {where}'s memory is too small for it, use a smaller model: "
            f"{' '.join(str(problem).split())}"
        ) from problem
    return engine


def make_engine(source: Path, name: str, compute_type: str, device: str) -> FasterWhisper:
    """An engine for a model of CTranslate2's in the directory `source`."""
    # 0 leaves the choice to OMP_NUM_THREADS.
    threads = 0 if "OMP_NUM_THREADS" in os.environ else usable_cpus()
    model = Whisper(
        str(source),
        device=device,
        compute_type=compute_type,
        inter_threads=CALLS_AT_ONCE[device],
        intra_threads=threads,
    )
    encoder_layers, decoder_layers = spec.layers(source / "model.bin")
    info = ModelInfo(
        name=name,
        n_mels=model.n_mels,
        n_audio_ctx=1500,
        n_text_ctx=448,
        is_multilingual=model.is_multilingual,
        num_languages=model.num_languages if model.is_multilingual else 99,
        is_turbo=is_turbo(encoder_layers, decoder_layers),
    )
    probe = np.array(model.encode(_silence(info), to_cpu=True).to(ctranslate2.DataType.float32))
    fitting = _fitting(decoder_layers, probe.shape[-1], device)
    calls = min(fitting, CALLS_AT_ONCE[device])
    rows = min(fitting // calls, DECODE_AT_ONCE[device])
    return FasterWhisper(
        model,
        info,
        windows=2 * rows,
        encode_at_once=min(rows, ENCODE_AT_ONCE[device]),
        decode_at_once=rows,
        calls_at_once=calls,
        description=f"{name} on {device} by CTranslate2 in {compute_type}, {rows} windows at once",
    )


def choose_device(wanted: str) -> str:
    """Return "cuda" or "cpu" for "auto", "cuda" or "cpu"; raises LoadError where "cuda" is unusable."""
    if wanted == "cpu":
        return "cpu"
    problem = _missing_for_cuda()
    if problem is None:
        return "cuda"
    if wanted == "auto":
        return "cpu"
    raise LoadError(
        f"WHISPER_DEVICE=cuda, but CTranslate2 can't use CUDA: {problem}; NVIDIA driver here: {driver_version()}. "
        "It needs CUDA 12: a driver from 525 on, and a torch built for CUDA 12, which brings the libraries "
        "(the image's TORCH_INDEX); or set WHISPER_ENGINE=openai-whisper or WHISPER_DEVICE=cpu"
    )


def _missing_for_cuda() -> str | None:
    """What keeps CTranslate2 from using CUDA."""
    try:
        if not ctranslate2.get_cuda_device_count():
            return "there is no GPU"
        import torch  # noqa: F401  # loads the libraries it was installed with

        ctypes.CDLL("libcublas.so.12")
    except (RuntimeError, OSError) as problem:
        return " ".join(str(problem).split())
    return None


def _compute_type(wanted: str, device: str) -> str:
    if wanted == "auto":
        return COMPUTE_TYPES[device]
    usable = ctranslate2.get_supported_compute_types(device)
    if wanted not in usable:
        fitting = sorted(usable & {"float32", "float16", "bfloat16", "int8", "int8_float16"})
        raise LoadError(
            f"WHISPER_DTYPE={wanted}: CTranslate2 can't compute in it on this {device}; use auto or one of {', '.join(fitting)}"
        )
    return wanted


def _fitting(decoder_layers: int, channels: int, device: str) -> int:
    """How many windows there is memory to decode at once, in all calls together. Raises LoadError if for none."""
    # Keys and values of cross-attention, twice: they are computed in one layout and used in another.
    each = 2 * 2 * decoder_layers * 1500 * channels * (2 if device == "cuda" else 4)
    free = free_memory(device)
    fitting = (free - SPARE_MEMORY) // each
    if fitting < 1:
        where = "GPU" if device == "cuda" else "machine"
        raise LoadError(
            f"the {where} has no memory left for a single window beside the model's weights: a window takes {each >> 20} MiB, "
            f"{SPARE_MEMORY >> 20} MiB more are needed, {free >> 20} MiB are free; use a smaller model or a larger {where}"
        )
    return int(fitting)


def _silence(info: ModelInfo) -> ctranslate2.StorageView:
    return ctranslate2.StorageView.from_array(np.zeros((1, info.n_mels, 3000), np.float32))


def _warm_up(engine: FasterWhisper) -> None:
    """Kernels are chosen and memory is taken at first use: let that be now."""
    engine.submit("warm up", Encode(mel=np.zeros((engine.info.n_mels, 3000), np.float32)))
    window = _answer(engine)
    engine.submit("warm up", Decode(window=window, language="en", sample_len=4))
    _answer(engine)
    engine.release(window)


def _answer(engine: FasterWhisper) -> Answer:
    """Of the only request."""
    while not (answers := engine.step()):
        pass
    return answers[0][1]
