"""Files that are no audio, or that lie, each with what the answer to them says."""

import gzip
import io
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.server.whisper_process import EXAMPLES, ffmpeg

CANARY = EXAMPLES / "hello.wav"


def header_only_wav(directory: Path) -> bytes:
    return CANARY.read_bytes()[:44]


def zip_file(directory: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.write(CANARY)
    return buffer.getvalue()


def image(directory: Path) -> bytes:
    path = directory / "image.png"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1", path)
    return path.read_bytes()


def silent_video(directory: Path) -> bytes:
    path = directory / "silent.mp4"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64:d=1", path)
    return path.read_bytes()


def hls(target: str) -> bytes:
    head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:10.0,\n"
    return f"{head}{target}\n#EXT-X-ENDLIST\n".encode()


def wav(channels: int = 1, rate: int = 16000, bits: int = 16, size: int = 0xFFFFFFFF, kind: int = 1) -> bytes:
    """A wav header that says what it likes, and a bit of noise."""
    width = max(1, channels * bits // 8) % 65536
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * width % 2**32, width, bits)
    return b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + form + b"data" + struct.pack("<I", size) + bytes(100)


def box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def numbers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def amr_mp4(samples: int) -> bytes:
    """An mp4 of 4 kB with two seconds of sound, whose tables promise so many samples: ffmpeg lists them, 24 bytes each."""
    frames = (b"\x3c" + bytes(31)) * 100  # a frame of AMR at 12.2 kbit/s has 32 bytes and 20 ms
    ftyp = box(b"ftyp", b"isom", numbers(0))
    matrix = numbers(1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    entry = box(b"samr", struct.pack(">6xH8x2H4xI", 1, 1, 16, 8000 << 16))
    tables = box(
        b"stbl",
        box(b"stsd", numbers(0, 1), entry),
        box(b"stts", numbers(0, 1, samples, 160)),
        box(b"stsc", numbers(0, 1, 1, samples, 1)),
        box(b"stsz", numbers(0, 32, samples)),
        box(b"stco", numbers(0, 1, len(ftyp) + 8)),
    )
    here = box(b"dinf", box(b"dref", numbers(0, 1), box(b"url ", numbers(1))))
    media = box(
        b"mdia",
        box(b"mdhd", numbers(0, 0, 0, 8000, 0, 0)),
        box(b"hdlr", numbers(0, 0), b"soun", bytes(13)),
        box(b"minf", box(b"smhd", numbers(0, 0)), here, tables),
    )
    track = box(b"trak", box(b"tkhd", numbers(0, 0, 0, 1, 0, 0), bytes(16), matrix, bytes(8)), media)
    movie = box(b"mvhd", numbers(0, 0, 0, 8000, 0, 1 << 16), bytes(12), matrix, bytes(24), numbers(2))
    return ftyp + box(b"mdat", frames) + box(b"moov", movie, track)


BAD_FILES: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "empty.wav": (lambda _: b"", "is empty: 0 bytes"),
    "text.wav": (lambda _: b"hello world\n" * 100, "not audio"),
    "random.wav": (lambda _: random.Random(1).randbytes(200_000), "not audio"),
    "archive.zip": (zip_file, "not audio"),
    "header.wav": (header_only_wav, "audio"),
    "image.png": (image, "not audio"),
    "video.mp4": (silent_video, "no audio track"),
    "url.wav": (lambda _: b"http://127.0.0.1:1/speech.wav", "not audio"),
    "local.m3u8": (lambda _: hls(f"file://{CANARY}"), "not audio"),
    "plain.m3u8": (lambda _: hls(str(CANARY)), "not audio"),
    "concat.ffconcat": (lambda _: b"ffconcat version 1.0\nfile " + str(CANARY).encode(), "not audio"),
    "sibling.ffconcat": (lambda _: b"ffconcat version 1.0\nfile 3\nfile hello.wav", "not audio"),
    "descriptor.ffconcat": (lambda _: b"ffconcat version 1.0\nfile /proc/self/fd/3", "not audio"),
    "zeros.wav": (lambda _: bytes(1_000_000), "not audio"),
    "script.svg": (lambda _: b'<svg><image href="file:///etc/passwd"/></svg>', "not audio"),
    "list.pls": (lambda _: b"[playlist]\nFile1=" + str(CANARY).encode(), "not audio"),
    "show.smil": (lambda _: b'<smil><audio src="' + str(CANARY).encode() + b'"/></smil>', "not audio"),
    "red.asx": (
        lambda _: b'<asx version="3.0"><ref href="' + str(CANARY).encode() + b'"/></asx>',
        "not audio",
    ),
    "program.wav": (lambda _: Path("/bin/true").read_bytes(), "not audio"),
    "packed.wav.gz": (lambda _: gzip.compress(CANARY.read_bytes()), "not audio"),
    "bomb.gz": (lambda _: gzip.compress(bytes(50_000_000)), "not audio"),
    "boxes.mp4": (lambda _: b"\0\0\0\x18ftypisom" + bytes(12) + b"\0\0\0\x08moov" * 10_000, "audio"),
    "endless.mp4": (lambda _: b"\0\0\0\x18ftypisom" + bytes(12) + b"\0\0\0\0moov" + bytes(1000), "audio"),
    "void.mkv": (lambda _: b"\x1aE\xdf\xa3\x80\xec\x01" + b"\xff" * 7 + bytes(1000), "decoded"),
    "pages.ogg": (lambda _: b"OggS\0\x02" + b"\xff" * 20 + b"\xff" * 256, "decoded"),
    "channels.wav": (lambda _: wav(channels=65535), "decoded"),
    "codec.wav": (lambda _: wav(kind=0x1234), "decoded"),
    "session.sdp": (lambda _: b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n", "not audio"),
    "dash.mpd": (
        lambda _: b'<?xml version="1.0"?><MPD><BaseURL>file:///etc/passwd</BaseURL></MPD>',
        "not audio",
    ),
    "index.mp4": (lambda _: amr_mp4(60_000_000), "no audio"),  # 1.4 GB of memory
}
