"""From settings to a warm engine."""

import threading
from dataclasses import dataclass

import numpy as np
import torch
from whisper.timing import dtw_cpu

from whisper_server.config import Settings
from whisper_server.engine.checkpoint import Checkpoint, load_checkpoint
from whisper_server.engine.hardware import choose_device
from whisper_server.engine.interface import LoadError, ModelInfo
from whisper_server.engine.torch.engine import OpenAIWhisper, Sizes
from whisper_server.engine.torch.layers import computes_bfloat16
from whisper_server.engine.torch.memory import as_large_as_fits
from whisper_server.engine.torch.model import Network


@dataclass(frozen=True)
class Kind:
    """What suits a kind of device."""

    most_windows: int
    """Where more rows in a step stop to pay."""
    encode_at_once: int
    """Windows to an encoder's run: a CPU is busy with one, and the other rows wait for less."""
    encode_in: int
    """Parts of an encoder's run, between which rows get their tokens."""
    lag: int
    fixed_shapes: bool


KINDS = {
    "cuda": Kind(128, encode_at_once=8, encode_in=4, lag=1, fixed_shapes=True),
    "cpu": Kind(16, encode_at_once=1, encode_in=1, lag=0, fixed_shapes=False),
}


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
    fixed_shapes: bool | None = None,
    graphs: bool | None = None,
) -> OpenAIWhisper:
    """An engine for a checkpoint; raises LoadError if there is no memory for a single window.

    What is None is as it suits the device. `windows`: exactly so many, without trying what there is memory for. `lag` and
    `fixed_shapes`: as Sizes has them. `graphs`: whether passes of fixed shapes are recorded and replayed; False to compare with.
    """
    kind = KINDS[device]
    if device == "cuda":
        # cuDNN's attention plans anew for each shape that it meets: only where these are few, see planned_attention.
        torch.backends.cuda.enable_cudnn_sdp(False)
    network = Network(checkpoint, dtype, device)
    fixed_shapes = kind.fixed_shapes if fixed_shapes is None else fixed_shapes

    def make(count: int) -> OpenAIWhisper:
        sizes = Sizes(
            windows=count,
            groups=_groups(count),
            encode_at_once=min(count, kind.encode_at_once),
            encode_in=kind.encode_in,
            lag=kind.lag if lag is None else lag,
            fixed_shapes=fixed_shapes,
            graphs=fixed_shapes and (device == "cuda" if graphs is None else graphs),
        )
        precision = str(dtype).removeprefix("torch.")
        return OpenAIWhisper(
            network, info, sizes, f"{info.name} on {device} in {precision}, {count} windows at once"
        )

    if windows is None:
        return as_large_as_fits(make, kind.most_windows, device)
    engine = make(windows)
    engine.record()
    return engine


def _groups(windows: int) -> int:
    """How many groups of rows there are for beams, and for samples to choose from: a few windows' worth of memory."""
    return min(8, max(2, windows // 16))


def model_info(name: str, checkpoint: Checkpoint) -> ModelInfo:
    """What a checkpoint says of itself."""
    return checkpoint.info(name)


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
