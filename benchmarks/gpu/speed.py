"""What the parts of one engine cost, and what it does in all, in this process: without HTTP, and without decoding audio files."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import whisper
from whisper_server.audio.mel import spectrogram
from whisper_server.engine.checkpoint import Checkpoint
from whisper_server.engine.interface import Decode, Encode, Engine
from whisper_server.engine.tokens import tokenizer_of
from whisper_server.transcribe.options import Options

from benchmarks.gpu import driving, material
from benchmarks.gpu.material import Setup

ROWS = (1, 8, 16, 32, 64, 128)
BATCHES = (1, 8, 16)
TOKENS = 48
"""That a step is measured over."""
EDGES = 8
"""Steps at the beginning and at the end that are not counted: rows join and leave there."""


def run(setup: Setup, note: Callable[[str, Any], None]) -> None:
    """Note times of a step and of the encoder, limits by bytes, and windows a second."""
    checkpoint, dtype = setup.checkpoint(), setup.dtypes[0]
    bandwidth = _bandwidth(setup)
    note("card", bandwidth)
    for name, graphs in (("graph", True), ("eager", False)):
        _measure(setup, checkpoint, name, graphs, note)
        driving.free()
    note("limits", _limits(checkpoint, dtype, bandwidth))
    note("openai-whisper, short files", _openai_whisper(setup))


def _measure(
    setup: Setup, checkpoint: Checkpoint, name: str, graphs: bool, note: Callable[[str, Any], None]
) -> None:
    """All about one engine. Without graphs only what they are for."""
    n_mels = checkpoint.dims.n_mels
    shorts = [spectrogram(material.samples_of(path), n_mels) for path in material.short_ones(setup)]
    fulls = [spectrogram(samples, n_mels) for samples in material.full_windows(setup)]
    mels = [sound.beginning() for sound in fulls]
    begin = time.perf_counter()
    engine = driving.make(checkpoint, setup.dtypes[0], setup.device, graphs=graphs)
    _warm_up(engine, mels[0])
    seconds = round(time.perf_counter() - begin, 2)
    note(f"ready, {name}", {"seconds": seconds, "windows": engine.windows})
    for rows in ROWS[: setup.some(2, len(ROWS))]:
        if rows <= engine.windows:
            note(f"step, {name}, {rows} rows", _step(engine, mels, rows, setup.some(24, TOKENS)))
    if not graphs:
        return
    for batch in BATCHES[: setup.some(1, len(BATCHES))]:
        if batch <= engine.windows:
            note(f"encoder, {batch} windows", _encoder(engine, mels, batch))
    options = Options(language="en")
    files = [(sound, options) for sound in fulls]
    note("full windows", driving.run(engine, files[:1] if setup.quick else files * 40).figures())
    files = [(sound, options) for sound in shorts]
    note("short files, one at a time", driving.run(engine, files[: setup.some(1, 8)], 1).figures())
    note("short files", driving.run(engine, files[:2] if setup.quick else files * 10).figures())


def _warm_up(engine: Engine, mel: Any) -> None:
    """As a server does before it is ready."""
    (window,) = driving.answers(engine, [Encode(mel=mel)])
    driving.answers(engine, [Decode(window=window, language="en", sample_len=4)])
    engine.release(window)


def _step(engine: Engine, mels: list[Any], rows: int, tokens: int) -> dict[str, float]:
    """One token for each row: the network, the rules, the choice, and finding out what was chosen."""
    eot = tokenizer_of(engine.info).eot
    windows = driving.answers(engine, [Encode(mel=mels[number % len(mels)]) for number in range(rows)])
    best = float("inf")
    for _ in range(2):  # at first, kernels are chosen
        for number, window in enumerate(windows):
            # Never at an end before all are.
            request = Decode(window=window, language="en", suppress_tokens=(-1, eot), sample_len=tokens)
            engine.submit(number, request)
        ends = []
        done = 0
        while done < rows:
            done += len(engine.step())
            ends.append(time.perf_counter())
        best = min(best, (ends[-EDGES] - ends[EDGES]) / (len(ends) - 2 * EDGES))
    for window in windows:
        engine.release(window)
    return {"ms": round(best * 1000, 3)}


def _encoder(engine: Engine, mels: list[Any], batch: int) -> dict[str, float]:
    """The encoder, and the keys and values made of what it heard."""
    requests = [Encode(mel=mels[number % len(mels)]) for number in range(batch)]
    times = []
    for _ in range(4):
        driving.synchronize()
        begin = time.perf_counter()
        windows = driving.answers(engine, requests)
        driving.synchronize()
        times.append(time.perf_counter() - begin)
        for window in windows:
            engine.release(window)
    return {"ms": round(min(times) * 1000, 2), "ms_a_window": round(min(times) * 1000 / batch, 2)}


def _bandwidth(setup: Setup) -> dict[str, float]:
    """What the device does at best: bytes read and written, and products of large matrices in the precision used."""
    dtype = getattr(torch, setup.dtypes[0])
    size = setup.some(1 << 24, 1 << 31)
    source = torch.zeros(size, dtype=torch.uint8, device=setup.device)
    target = torch.empty_like(source)
    copy = _fastest(lambda: target.copy_(source))
    side = setup.some(512, 8192)
    matrix = torch.randn(side, side, device=setup.device).to(dtype)
    product = _fastest(lambda: matrix @ matrix)
    return {"bytes_a_second": 2 * size / copy, "flops_a_second": 2 * side**3 / product}


def _fastest(work: Callable[[], object]) -> float:
    times = []
    for _ in range(8):
        driving.synchronize()
        begin = time.perf_counter()
        work()
        driving.synchronize()
        times.append(time.perf_counter() - begin)
    return min(times)


def _limits(checkpoint: Checkpoint, dtype: str, card: dict[str, float]) -> dict[str, float]:
    """Milliseconds that a step and a window can't be faster than: bytes that have to be read, products that have to be made."""
    dims, each = checkpoint.dims, getattr(torch, dtype).itemsize
    decoder = sum(t.numel() for name, t in checkpoint.state.items() if name.startswith("decoder."))
    # Keys and values of cross-attention, which are weights of the decoder too, are computed once a window.
    width, audio = dims.n_text_state, dims.n_audio_ctx
    weights = (decoder - dims.n_text_layer * 2 * width**2) * each
    window = 2 * dims.n_text_layer * audio * width * each
    encoder = sum(t.numel() for name, t in checkpoint.state.items() if name.startswith("encoder."))
    flops = 2 * encoder * audio + dims.n_audio_layer * 4 * audio**2 * dims.n_audio_state
    flops += 2 * dims.n_text_layer * 2 * width**2 * audio
    found = {
        f"step, {rows} rows": round((weights + rows * window) / card["bytes_a_second"] * 1000, 3)
        for rows in ROWS
    }
    return found | {"encoder, a window": round(flops / card["flops_a_second"] * 1000, 3)}


def _openai_whisper(setup: Setup) -> dict[str, float]:
    """Its own `transcribe`, one file after the other."""
    torch.backends.cuda.enable_cudnn_sdp(True)  # as it finds it: an engine may have turned it off
    model = whisper.load_model(str(setup.model), device=setup.device)
    paths = material.short_ones(setup)[: setup.some(2, 9)]
    sounds = [material.samples_of(path).astype(np.float32) / 32768 for path in paths]
    model.transcribe(sounds[0], language="en", fp16=setup.device == "cuda")
    driving.synchronize()
    begin = time.perf_counter()
    for sound in sounds[1:]:
        model.transcribe(sound, language="en", fp16=setup.device == "cuda")
    driving.synchronize()
    seconds = time.perf_counter() - begin
    return {"times_real_time": round(sum(len(sound) for sound in sounds[1:]) / 16000 / seconds, 2)}
