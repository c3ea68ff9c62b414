"""Which of a file's tracks is heard, and what is said of a file that can't be."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from whisper_server.audio import ffmpeg
from whisper_server.engine.interface import Samples

from tests.server import whisper_process
from tests.server.driving import soon
from tests.server.whisper_process import EXAMPLES

HELLO = EXAMPLES / "hello.wav"


def decoded(path: Path) -> Samples:
    with path.open("rb") as file:
        return ffmpeg.decode(file, 60, soon())


@pytest.mark.parametrize(("flags", "speaks"), [(("0", "default"), True), (("default", "0"), False)])
def test_the_default_track_is_heard(tmp_path: Path, flags: tuple[str, str], speaks: bool) -> None:
    """As of a film with several languages."""
    film = tmp_path / "film.mkv"
    silence = ["-f", "lavfi", "-t", "4", "-i", "anullsrc=r=16000:cl=mono"]
    tracks = ["-map", "0:a", "-map", "1:a", "-c:a", "flac", "-disposition:a:0", flags[0]]
    whisper_process.ffmpeg(*silence, "-i", HELLO, *tracks, "-disposition:a:1", flags[1], film)
    assert bool(np.abs(decoded(film)).max() > 1000) is speaks


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("a.wav", 0, "it is empty: 0 bytes were sent"),
        ("a.m4a", 5000, "its index is missing (the moov atom): it was cut off"),
        ("a.mp4", 40, "its index is missing (the moov atom)"),
        ("a.webm", 100, "it ends before any audio in it begins"),
        ("a.webm", 300, "it ends before any audio in it begins"),
        ("a.flac", 50, "it ends before any audio in it begins"),
        ("a.ogg", 40, "it ends before any audio in it begins"),
    ],
)
def test_what_is_wrong_with_a_file_that_was_cut_off(
    tmp_path: Path, name: str, size: int, message: str
) -> None:
    whole, cut = tmp_path / name, tmp_path / f"cut-{name}"
    whisper_process.ffmpeg("-i", HELLO, whole)
    cut.write_bytes(whole.read_bytes()[:size])
    with pytest.raises(ffmpeg.AudioError) as problem:
        decoded(cut)
    assert message in str(problem.value)
    if size:
        assert "send the whole file" in str(problem.value)


@pytest.mark.parametrize("name", ["a.webm", "a.ogg", "a.mp3", "a.flac", "a.wav", "a.mka"])
def test_wherever_a_file_ends_its_beginning_is_heard_or_the_end_is_named(tmp_path: Path, name: str) -> None:
    whole, cut = tmp_path / name, tmp_path / f"cut-{name}"
    whisper_process.ffmpeg("-i", HELLO, whole)
    content = whole.read_bytes()
    for size in itertools.chain(range(1, 1000, 90), range(2000, len(content), len(content) // 3)):
        cut.write_bytes(content[:size])
        try:
            assert len(decoded(cut))
        except ffmpeg.AudioError as problem:
            assert "Input/output" not in str(problem), size
            assert size < 3000, (size, problem)
