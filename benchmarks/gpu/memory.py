"""Whether a burst of requests costs anything but time on a card with a T4's memory: no request, and no room for good."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from whisper_server.audio.mel import spectrogram
from whisper_server.config import Settings
from whisper_server.engine.load import load
from whisper_server.transcribe.options import Options

from benchmarks.gpu import driving, material
from benchmarks.gpu.material import Setup

T4_BYTES = int(14.5 * 2**30)
"""What a T4 leaves to torch of its 15 GiB, after the driver and CUDA."""
LEFT_BYTES = (256 << 20, 32 << 20)
"""What a neighbour leaves of it, in a burst each: some for larger passes, and hardly any beside what is recorded."""
PIECE_BYTES = 16 << 20
BOUND = Options(language="en", condition_on_previous_text=False)


def run(setup: Setup, note: Callable[[str, Any], None]) -> None:
    """Note what came of bursts: one as it is, some while something else takes the memory, one after that."""
    on_gpu = setup.device == "cuda"
    if on_gpu:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, T4_BYTES / total))
    dtype = setup.dtypes[0]
    settings = replace(Settings(), model=str(setup.model), device=setup.device, dtype=dtype)
    engine = load(settings)
    note("at the start", {"windows": engine.windows, "engine": engine.description, **_taken(on_gpu)})
    shorts = [material.samples_of(path) for path in material.short_ones(setup)]
    short = [spectrogram(samples, engine.info.n_mels) for samples in shorts]
    full = [spectrogram(samples, engine.info.n_mels) for samples in material.full_windows(setup)]
    kinds = (BOUND, BOUND, replace(BOUND, word_timestamps=True), replace(BOUND, beam_size=5))
    files = [(sound, kinds[number % 4]) for number, sound in enumerate((short + full) * setup.some(1, 3))]
    if setup.quick:
        files = files[:4]
    first = driving.run(engine, files)
    note("a burst", _figures(first, engine, on_gpu))
    for left in LEFT_BYTES:
        ballast = _take_all_but(left) if on_gpu else []
        scarce = driving.run(engine, files)
        note(f"while {left >> 20} MiB are left", _figures(scarce, engine, on_gpu) | _as(first, scarce))
        ballast.clear()
        if on_gpu:
            torch.cuda.empty_cache()
    last = driving.run(engine, files)
    note("after that", _figures(last, engine, on_gpu) | _as(first, last))


def _figures(outcome: driving.Outcome, engine: Any, on_gpu: bool) -> dict[str, Any]:
    return {
        "files": len(outcome.segments),
        "lost": outcome.problems,
        "windows": engine.windows,
        "out_of_memory_so_far": engine.stats.out_of_memory,
        "windows_a_second": outcome.figures()["windows_a_second"],
        **_taken(on_gpu),
    }


def _as(first: driving.Outcome, later: driving.Outcome) -> dict[str, int]:
    """How many files say what they said before: all in float32; in float16 other batches have other last bits."""
    pairs = zip(first.texts(), later.texts(), strict=True)
    return {"texts_as_before": sum(one == other for one, other in pairs)}


def _taken(on_gpu: bool) -> dict[str, int]:
    if not on_gpu:
        return {}
    taken = {"most_mib": torch.cuda.max_memory_reserved() >> 20}
    torch.cuda.reset_peak_memory_stats()
    return taken


def _take_all_but(left: int) -> list[torch.Tensor]:
    """As another program would: pieces until so much is left."""
    torch.cuda.empty_cache()
    taken: list[torch.Tensor] = []
    while T4_BYTES - torch.cuda.memory_reserved() > left + PIECE_BYTES:
        try:
            taken.append(torch.empty(PIECE_BYTES, dtype=torch.uint8, device="cuda"))
        except torch.OutOfMemoryError:
            break
    return taken
