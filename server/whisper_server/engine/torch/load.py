"""From settings to a warm engine."""

import threading

import numpy as np
import torch
from whisper.timing import dtw_cpu

from whisper_server.config import Settings
from whisper_server.engine.checkpoint import Checkpoint, load_checkpoint
from whisper_server.engine.hardware import choose_device, free_memory
from whisper_server.engine.interface import Decode, Encode, LoadError, ModelInfo
from whisper_server.engine.torch.engine import OpenAIWhisper
from whisper_server.engine.torch.layers import computes_bfloat16
from whisper_server.engine.torch.model import Network
from whisper_server.engine.torch.sequence import MAX_GROUP

MOST_WINDOWS = {"cuda": 32, "cpu": 16}
"""Where more rows in a step stop to pay."""
ENCODE_AT_ONCE = {"cuda": 8, "cpu": 1}
"""Windows to an encoder's run: a CPU is busy with one, and the other rows wait for less."""
SPARE_MEMORY = 1 << 30
"""Bytes of the device left for what comes and goes while it computes."""


def load(settings: Settings) -> OpenAIWhisper:
    """Load and warm up the model that `settings` ask for; raises LoadError."""
    device = choose_device(settings.device)
    dtype = _dtype(settings.dtype, device)
    # Word timestamps use a function that is compiled at its first use, which takes seconds: meanwhile.
    compiling = threading.Thread(target=lambda: dtw_cpu(np.zeros((2, 2))), name="compile")
    compiling.start()
    try:
        checkpoint = load_checkpoint(settings.model, settings.model_dir)
        info = model_info(settings.model, checkpoint)
        engine = make_engine(checkpoint, info, dtype, device)
        _warm_up(engine)
    except (torch.OutOfMemoryError, MemoryError) as problem:
        where = "GPU" if device == "cuda" else "machine"
        raise LoadError(
            f"the model {settings.model} does not fit into the {where}'s memory; "
            f"use a smaller model or a larger {where}: {' '.join(str(problem).split())}"
        ) from problem
    compiling.join()
    return engine


def make_engine(
    checkpoint: Checkpoint,
    info: ModelInfo,
    dtype: torch.dtype,
    device: str,
    *,
    windows: int | None = None,
    lag: int | None = None,
) -> OpenAIWhisper:
    """An engine for a checkpoint; raises LoadError if there is no memory for a single window."""
    network = Network(checkpoint, dtype, device)
    if windows is None:
        windows = _windows(checkpoint, dtype, device)
    return OpenAIWhisper(
        network,
        info,
        windows=windows,
        encode_at_once=min(windows, ENCODE_AT_ONCE[device]),
        lag=(1 if device == "cuda" else 0) if lag is None else lag,
        description=f"{info.name} on {device} in {str(dtype).removeprefix('torch.')}, {windows} windows at once",
    )


def model_info(name: str, checkpoint: Checkpoint) -> ModelInfo:
    """What a checkpoint says of itself."""
    return checkpoint.info(name)


def window_bytes(checkpoint: Checkpoint, dtype: torch.dtype) -> int:
    """Memory of one window: keys and values of cross-attention, and of self-attention for the row that decodes it."""
    dims = checkpoint.dims
    values = 2 * dims.n_text_layer * dims.n_text_state * (dims.n_audio_ctx + dims.n_text_ctx)
    return int(values * dtype.itemsize)


def _windows(checkpoint: Checkpoint, dtype: torch.dtype, device: str) -> int:
    dims = checkpoint.dims
    each = window_bytes(checkpoint, dtype)
    groups = 2 * MAX_GROUP * 2 * dims.n_text_layer * dims.n_text_state * dims.n_text_ctx * dtype.itemsize
    free = free_memory(device) - SPARE_MEMORY - groups
    windows = min(MOST_WINDOWS[device], free // each)
    if windows < 1:
        where = "GPU" if device == "cuda" else "machine"
        raise LoadError(
            f"the {where} has no memory left for a single window beside the model's weights: a window takes "
            f"{each >> 20} MiB, {(SPARE_MEMORY + groups) >> 20} MiB more are needed, {free_memory(device) >> 20} MiB are free; "
            f"use a smaller model or a larger {where}"
        )
    return int(windows)


def _dtype(wanted: str, device: str) -> torch.dtype:
    if wanted == "auto":
        return torch.float16 if device == "cuda" else torch.float32
    if wanted == "float16" and device == "cpu":
        raise LoadError("WHISPER_DTYPE=float16 needs CUDA, and there is none; use float32, bfloat16 or auto")
    if wanted not in ("float32", "float16", "bfloat16"):
        raise LoadError(
            f"WHISPER_DTYPE={wanted} needs WHISPER_ENGINE=faster-whisper; use float16, bfloat16 or auto"
        )
    if (
        wanted == "bfloat16"
        and device == "cuda"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise LoadError("WHISPER_DTYPE=bfloat16: this GPU can't compute in it; use float16 or auto")
    if wanted == "bfloat16" and device == "cpu" and not computes_bfloat16():
        raise LoadError("WHISPER_DTYPE=bfloat16: this CPU can't compute in it; use float32 or auto")
    if wanted == "float32":
        # Full precision means full precision: by default cuDNN computes convolutions with fewer bits.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[wanted]


def _warm_up(engine: OpenAIWhisper) -> None:
    """Kernels are chosen and memory is taken at first use: let that be now."""
    mel = np.zeros((engine.info.n_mels, 2 * engine.info.n_audio_ctx), np.float32)
    engine.submit("warm up", Encode(mel=mel))
    (_, window), *_ = engine.step()
    engine.submit("warm up", Decode(window=window, language="en", sample_len=4))
    while engine.busy():
        engine.step()
    engine.release(window)
