"""Any audio file to samples, by ffmpeg, of which nothing is believed.

ffmpeg reads whatever a file names: a playlist of local files, a URL, a concat script. So it is told the few
formats that contain audio and refer to nothing, it may open local files only, it sees the upload as an open
file descriptor instead of a name in a directory, and its memory, time, threads and output are bounded.
"""

import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from typing import IO

import numpy as np

from whisper_server.cgroup import usable_cpus
from whisper_server.engine.interface import SAMPLE_RATE, Samples

# ffmpeg's names of the formats that are accepted. None of them can make it open another file.
FORMATS = ("wav", "w64", "aiff", "caf", "au", "flac", "ogg", "mp3", "aac", "amr", "mov", "matroska", "mpeg")
FORMATS_FOR_PEOPLE = "wav, flac, mp3, m4a, mp4, ogg, opus, webm, aac, aiff, caf, amr"

_ADDRESS_SPACE = 1 << 30  # bytes; ffmpeg and its libraries map 0.3 GiB before they begin
_BYTES_PER_SECOND = 2 * SAMPLE_RATE


class AudioError(ValueError):
    """The file is not audio that can be decoded. The message says why, without the file's name."""


class TooLongError(ValueError):
    """The file is longer than allowed. The message says what is allowed."""


def missing_tools() -> list[str]:
    """The programs that `decode` needs and this machine lacks."""
    return [tool for tool in ("ffmpeg", "prlimit") if shutil.which(tool) is None]


def usable_decoders() -> int:
    """How many ffmpegs keep the container's cores busy; few, as decoding is a small part of the work."""
    return max(2, min(4, usable_cpus()))


def decode(
    file: IO[bytes], max_seconds: float, deadline: float, check_cancelled: Callable[[], None] = lambda: None
) -> Samples:
    """Return the samples of an open file, mono at 16 kHz.

    Raises AudioError, also for a file that takes too much memory or processor time, TooLongError beyond `max_seconds` of audio,
    TimeoutError at `deadline` (time.monotonic()), and what `check_cancelled` raises, which is called at least once a second.
    """
    file.flush()
    if not os.fstat(file.fileno()).st_size:
        raise AudioError("it is empty: 0 bytes were sent")
    max_bytes = int(max_seconds * _BYTES_PER_SECOND)
    process = subprocess.Popen(
        _command(file.fileno(), max_seconds),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(file.fileno(),),
        process_group=0,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
    )
    with process:
        try:
            pcm, complaint = _collect(process, max_bytes, deadline, check_cancelled)
            status = process.wait()
        finally:
            # The whole group, and before leaving the with block, which waits.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if status != 0:
        raise AudioError(_reason(status, complaint))
    if not pcm:
        raise AudioError("it contains no audio")
    return np.frombuffer(pcm, np.int16, count=len(pcm) // 2)


def cpu_seconds(max_seconds: float) -> int:
    """The processor time that decoding may take; ample: ffmpeg decodes hundreds of times faster than real time on one core."""
    return 30 + int(max_seconds / 20)


def _command(descriptor: int, max_seconds: float) -> list[str]:
    # Time of the processor and not of the clock: a file is not to blame for a busy machine.
    limits = ["prlimit", f"--as={_ADDRESS_SPACE}", f"--cpu={cpu_seconds(max_seconds)}"]
    limits += ["--fsize=0", "--core=0", "--"]
    ffmpeg = ["ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error"]
    source = ["-protocol_whitelist", "file,pipe", "-format_whitelist", ",".join(FORMATS), "-threads", "1"]
    source += ["-vn", "-sn", "-dn", "-i", f"file:/proc/self/fd/{descriptor}"]
    # Of several audio tracks ffmpeg takes the one that the file calls the default, as players do. One second more than is
    # allowed, so that too much is seen to be too much.
    result = ["-t", f"{max_seconds + 1:.3f}", "-threads", "1"]
    result += ["-f", "s16le", "-ac", "1", "-ar", str(SAMPLE_RATE), "pipe:1"]
    return [*limits, *ffmpeg, *source, *result]


def _collect(
    process: "subprocess.Popen[bytes]", max_bytes: int, deadline: float, check_cancelled: Callable[[], None]
) -> tuple[bytearray, str]:
    """Read what ffmpeg writes: at most `max_bytes` of samples, and the beginning of its complaints."""
    output = {process.stdout: bytearray(), process.stderr: bytearray()}
    samples, complaint = output.values()
    with selectors.DefaultSelector() as selector:
        for pipe in output:
            selector.register(pipe, selectors.EVENT_READ)  # type: ignore[arg-type]  # never None with PIPE
        while selector.get_map():
            if (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError("decoding took too long")
            check_cancelled()
            for key, _ in selector.select(min(left, 1.0)):
                data = os.read(key.fd, 1 << 16)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    samples += data
                elif len(complaint) < 4096:
                    complaint += data
            if len(samples) > max_bytes:
                raise TooLongError(f"more than {max_bytes / _BYTES_PER_SECOND:g} seconds of audio")
    return samples, complaint.decode(errors="replace")


def _reason(status: int, complaint: str) -> str:
    if "does not contain any stream" in complaint:
        return "it has no audio track"
    if status < 0 or "Cannot allocate memory" in complaint:
        return (
            "it takes too much memory or time to decode; convert it before you send it, "
            "for example: ffmpeg -i FILE -ac 1 -ar 16000 speech.flac"
        )
    if "moov atom not found" in complaint:
        return "its index is missing (the moov atom): it was cut off, or its recording never ended; send the whole file"
    lines = complaint.strip().splitlines()
    detail = lines[-1].rsplit(": ", 1)[-1] if lines else "no reason given"
    # That is how a demuxer says that it wanted more: the file itself can be read.
    if "ended prematurely" in complaint or detail in ("Input/output error", "End of file"):
        return "it can't be decoded: it ends before any audio in it begins, or is damaged there; send the whole file"
    if "not on whitelist" in complaint or "Invalid data" in detail:
        return f"it is not audio in an accepted format ({FORMATS_FOR_PEOPLE})"
    return f"it can't be decoded ({detail})"
