"""Speech is found, silence and noise are not; spans are what Whisper can take."""

import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from whisper_server.audio import vad

from tests.server.driving import samples_of

CLIPS = sorted((Path(__file__).parent / "clips").glob("*.flac"))


@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.stem)
def test_hears_speech(path: Path) -> None:
    samples = samples_of(path)
    loud = np.flatnonzero(np.abs(samples) > 1000) / 16000
    (begin, end) = vad.spans(samples)[0][0], vad.spans(samples)[-1][1]
    assert begin <= loud[0] + 0.05
    assert end >= loud[-1] - 0.05


@pytest.mark.parametrize("level", [0, 3, 300, 3000])
def test_hears_nothing_in_noise(level: int) -> None:
    noise = np.random.default_rng(level).normal(0, level, 20 * 16000).astype(np.int16)
    assert vad.spans(noise) == []


@pytest.mark.parametrize("length", [0, 1, 511, 512, 513])
def test_very_short_files(length: int) -> None:
    assert vad.spans(np.zeros(length, np.int16)) == []


def test_joins_to_thirty_seconds_and_keeps_gaps() -> None:
    parts = [samples_of(path) for path in CLIPS]
    found = vad.spans(np.concatenate(parts))
    assert all(end - begin <= 30 for begin, end in found)
    assert len(found) <= 3  # a minute of speech
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(found))


def test_threads_may_share_it() -> None:
    files = [samples_of(path) for path in CLIPS]
    expected = [vad.spans(file) for file in files]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(vad.spans, files * 3)) == expected * 3


def test_leaves_torch_its_threads() -> None:
    before = torch.get_num_threads()
    vad.spans(np.zeros(16000, np.int16))
    assert torch.get_num_threads() == before


@given(
    marks=st.lists(st.floats(0.01, 70), max_size=12),
    longest=st.floats(1, 30),
)
def test_spans_are_in_order_and_short_enough(marks: list[float], longest: float) -> None:
    """Whatever the detector says: in order, within the file, no longer than allowed, and all of the speech in them."""
    points = np.cumsum(marks).tolist()
    speech = list(zip(points[::2], points[1::2], strict=False))
    duration = (points[-1] if points else 0) + 1
    padded = vad._padded(speech, duration)
    found = vad._joined([piece for span in padded for piece in vad._cut(span, longest)], longest)
    assert all(0 <= begin < end <= duration for begin, end in found)
    assert all(end - begin <= longest + 0.011 for begin, end in found)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(found))
    for begin, end in speech:
        covered = sum(max(0.0, min(end, b) - max(begin, a)) for a, b in found)
        assert covered == pytest.approx(end - begin, abs=0.02)


def test_the_runtime_tells_nobody_and_leaves_nothing(tmp_path: Path) -> None:
    """onnxruntime reports its use unless it is told not to before it is first imported; its session file shows that it would."""
    hear = "import numpy; from whisper_server.audio import vad; assert vad.spans(numpy.zeros(16000, numpy.int16)) == []"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"TMPDIR": str(tmp_path), "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", hear], env=environment, check=True, timeout=120)
    assert list(tmp_path.rglob("*")) == []
