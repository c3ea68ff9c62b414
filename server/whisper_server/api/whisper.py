"""`POST /whisper`: files in, their transcripts out."""

import contextlib
import time
from collections.abc import Sequence

from flask import Blueprint, Response, jsonify, request
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, ServiceUnavailable

from whisper_server import audio
from whisper_server.admission import Admission
from whisper_server.config import Settings
from whisper_server.engine import SAMPLE_RATE, Samples
from whisper_server.metrics import Metrics
from whisper_server.options import Options
from whisper_server.scheduler import Scheduler
from whisper_server.uploads import files_of


def blueprint(settings: Settings, scheduler: Scheduler, admission: Admission, metrics: Metrics) -> Blueprint:
    """The route, wired to its parts."""
    routes = Blueprint("whisper", __name__)
    options = Options(language=settings.language, task=settings.task, initial_prompt=settings.prompt)

    @routes.post("/whisper")
    def whisper() -> Response:
        """Transcribe every file of a multipart request; all of them or none."""
        begin = time.monotonic()
        deadline = begin + settings.request_timeout_seconds
        if (request.content_length or 0) > settings.max_upload_bytes:
            raise RequestEntityTooLarge(
                f"the request has {request.content_length} bytes; "
                f"this server takes {settings.max_upload_bytes} (WHISPER_MAX_UPLOAD_BYTES)"
            )
        with admission.admit():
            files = files_of(request)
            try:
                tracks = _decode(files, settings.max_audio_seconds, deadline, metrics)
                jobs = [
                    scheduler.submit(samples, options, client=request.remote_addr or "", deadline=deadline)
                    for samples in tracks
                ]
                with contextlib.ExitStack() as stack:
                    for job in jobs:
                        stack.enter_context(job)
                    texts = [job.transcript().text for job in jobs]
            except TimeoutError:
                raise ServiceUnavailable(
                    f"not done within {settings.request_timeout_seconds} seconds, the limit of this server; "
                    "send shorter audio, or try again when it is less busy",
                    retry_after=30,
                ) from None
        metrics.audio_seconds.inc(sum(map(len, tracks)) / SAMPLE_RATE)
        metrics.request_seconds.observe(time.monotonic() - begin)
        pairs = zip(files, texts, strict=True)
        return jsonify(results=[{"filename": file.filename, "transcript": text} for file, text in pairs])

    return routes


def _decode(
    files: Sequence[FileStorage], max_seconds: int, deadline: float, metrics: Metrics
) -> list[Samples]:
    """Decode all files before the first is transcribed: a bad one wastes no time of the GPU."""
    tracks: list[Samples] = []
    left = float(max_seconds)
    for file in files:
        try:
            with metrics.decode_seconds.time():
                tracks.append(audio.decode(file.stream, left, deadline))
        except audio.AudioError as problem:
            raise BadRequest(f"{file.filename}: {problem}") from None
        except audio.TooLongError as problem:
            rest = f" with the files before it: {problem}" if len(files) > 1 else f": {problem}"
            raise RequestEntityTooLarge(
                f"{file.filename} is too long{rest}; this server takes {max_seconds} seconds in one request"
            ) from None
        left -= len(tracks[-1]) / SAMPLE_RATE
    return tracks
