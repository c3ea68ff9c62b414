"""`POST /whisper`: files in, their transcripts out."""

from contextlib import ExitStack

from flask import Blueprint, Response, jsonify, request

from whisper_server.http.lifecycle import Lifecycle
from whisper_server.http.uploads import files_of
from whisper_server.transcribe.options import Options


def blueprint(lifecycle: Lifecycle) -> Blueprint:
    """The route, wired to its parts."""
    routes = Blueprint("whisper", __name__)
    settings = lifecycle.settings
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
        with lifecycle.admit() as place, ExitStack() as stack:
            lifecycle.receive(place)
            files = files_of(request)
            tracks = lifecycle.decode(files, place)
            jobs = [stack.enter_context(lifecycle.submit(samples, options)) for samples in tracks]
            texts = [lifecycle.wait(job).text for job in jobs]
        pairs = zip(files, texts, strict=True)
        return jsonify(results=[{"filename": file.filename, "transcript": text} for file, text in pairs])

    return routes
