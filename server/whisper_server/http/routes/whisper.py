"""`POST /whisper`: files in, their transcripts out."""

from contextlib import ExitStack

from flask import Blueprint, Response, jsonify, request

from whisper_server.http.lifecycle import Transcribing
from whisper_server.http.uploads import files_of
from whisper_server.transcribe.options import Options


def blueprint(transcribing: Transcribing) -> Blueprint:
    """The route, wired to its parts."""
    routes = Blueprint("whisper", __name__)
    settings = transcribing.settings
    options = Options(
        language=settings.language,
        fast_detection=settings.detect == "fast",
        task=settings.task,
        initial_prompt=settings.prompt,
        vad=settings.vad,
    )

    @routes.post("/whisper")
    def whisper() -> Response:
        """Transcribe every file of a multipart request; all of them or none."""
        with transcribing.admit() as place, ExitStack() as stack:
            transcribing.receive(place)
            files = files_of(request)
            tracks = transcribing.decode(files, place)
            jobs = [stack.enter_context(transcribing.submit(samples, options)) for samples in tracks]
            texts = [transcribing.wait(job).text for job in jobs]
        pairs = zip(files, texts, strict=True)
        return jsonify(results=[{"filename": file.filename, "transcript": text} for file, text in pairs])

    return routes
