"""Where in a file somebody speaks: Silero's voice activity detector, cut to spans that Whisper can take as they are."""

import itertools
import os
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_server.engine.interface import SAMPLE_RATE, Samples

FRAME = 512
"""Samples that the detector judges at a time: 32 ms."""
_CONTEXT = 64
"""Samples before a frame that it hears with it."""
_FRAMES_A_RUN = 512
THRESHOLD = 0.5
"""Speech begins at this probability ..."""
_LEAVE = THRESHOLD - 0.15
"""... and lasts until it falls below this one ..."""
MIN_SILENCE = 0.5
"""... for so many seconds."""
MIN_SPEECH = 0.1
"""Seconds; shorter ones are noise."""
PAD = 0.3
"""Seconds before and after speech that count as speech: its first and last sounds are soft."""
LONGEST = 30.0
"""Seconds of a span: one window of Whisper's."""

Span = tuple[float, float]
"""Begin and end in seconds."""


def spans(samples: Samples) -> list[Span]:
    """Where somebody speaks, in order and without overlaps, none longer than LONGEST seconds.

    Neighbours are joined, the gap between them kept, as long as they fit: fewer and fuller windows. About a millisecond of one
    CPU's time for each second of audio; may be called from several threads.
    """
    duration = len(samples) / SAMPLE_RATE
    pieces = [
        piece for span in _padded(_speech(probabilities(samples)), duration) for piece in _cut(span, LONGEST)
    ]
    return _joined(pieces, LONGEST)


def probabilities(samples: Samples) -> NDArray[np.float32]:
    """That somebody speaks, for each FRAME samples, the last filled up with silence. Shape (frames,)."""
    session = _session()
    state = np.zeros((2, 1, 1, 128), np.float32)
    before = np.zeros(_CONTEXT, np.float32)
    found = [np.zeros(0, np.float32)]
    for first in range(0, len(samples), FRAME * _FRAMES_A_RUN):
        block = samples[first : first + FRAME * _FRAMES_A_RUN].astype(np.float32) / 32768.0
        block = np.pad(block, (0, -len(block) % FRAME))
        frames = np.lib.stride_tricks.sliding_window_view(np.concatenate([before, block]), _CONTEXT + FRAME)
        values, *hidden = session.run(
            ["speech_probs", "hn", "cn"],
            {"input": np.ascontiguousarray(frames[::FRAME]), "h": state[0], "c": state[1]},
        )
        state = np.stack(hidden)
        before = block[-_CONTEXT:]
        found.append(values.reshape(-1))
    return np.concatenate(found)


@lru_cache(maxsize=1)
def _session() -> Any:
    """The detector, loaded once. Its runs share nothing, so that threads may run it at the same time."""
    # The runtime would tell its maker of every session otherwise, and leave a file in the temporary directory.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    # The package is a home for its model: importing it sets the number of threads of all of torch to one.
    package = find_spec("silero_vad")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("silero_vad is not installed")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = Path(package.submodule_search_locations[0]) / "data" / "silero_vad_16k_sequence.onnx"
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _speech(chances: NDArray[np.float32]) -> list[Span]:
    """From where the probability rises to where it has fallen for good."""
    step = FRAME / SAMPLE_RATE
    found: list[Span] = []
    begin: float | None = None
    quiet: float | None = None
    for number, chance in enumerate(chances.tolist()):
        now = number * step
        if chance >= THRESHOLD:
            begin = now if begin is None else begin
            quiet = None
        elif begin is not None and chance < _LEAVE:
            quiet = now if quiet is None else quiet
            if now - quiet >= MIN_SILENCE:
                found.append((begin, quiet))
                begin = quiet = None
    if begin is not None:
        found.append((begin, len(chances) * step if quiet is None else quiet))
    return [span for span in found if span[1] - span[0] >= MIN_SPEECH]


def _padded(found: list[Span], duration: float) -> list[Span]:
    """With PAD on either side, or up to the middle of a pause that is too short for that; whole frames of 10 ms."""
    padded = []
    for number, (begin, end) in enumerate(found):
        before = found[number - 1][1] if number else -duration
        after = found[number + 1][0] if number + 1 < len(found) else 3 * duration
        begin = max(0.0, begin - min(PAD, (begin - before) / 2))
        end = min(duration, end + min(PAD, (after - end) / 2))
        padded.append((round(begin, 2), round(end, 2)))
    return padded


def _cut(span: Span, longest: float) -> list[Span]:
    """Speech without a pause, in equal parts that are short enough."""
    begin, end = span
    parts = max(1, int(np.ceil(round((end - begin) / longest, 6))))
    points = [round(begin + (end - begin) * part / parts, 2) for part in range(parts)] + [end]
    return list(itertools.pairwise(points))


def _joined(pieces: list[Span], longest: float) -> list[Span]:
    """As few spans as fit."""
    joined: list[Span] = []
    for begin, end in pieces:
        if joined and end - joined[-1][0] <= longest:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return joined
