"""The public application: what port 8000 answers."""

from flask import Flask, Response, jsonify, request

from whisper_server import __version__
from whisper_server.admission import Admission
from whisper_server.api import cors, errors, whisper
from whisper_server.config import Settings
from whisper_server.metrics import Metrics
from whisper_server.scheduler import Scheduler
from whisper_server.uploads import UploadRequest


def create_app(settings: Settings, scheduler: Scheduler, admission: Admission, metrics: Metrics) -> Flask:
    """Wire the routes to the parts that do the work."""
    app = Flask(__name__, static_folder=None)
    app.request_class = UploadRequest
    app.config["MAX_CONTENT_LENGTH"] = settings.max_upload_bytes
    app.json.ensure_ascii = False  # type: ignore[attr-defined]  # of the default provider
    errors.install(app)
    cors.install(app, settings.cors_origins)
    app.register_blueprint(whisper.blueprint(settings, scheduler, admission, metrics))

    @app.get("/")
    def about() -> Response:
        """Say what this is and how to use it."""
        return jsonify(
            name="whisper-server",
            version=__version__,
            model=settings.model,
            usage=f"curl -F file=@speech.wav {request.url_root}whisper",
            endpoints={"POST /whisper": "audio files as multipart/form-data; their transcripts as JSON"},
        )

    @app.after_request
    def count(response: Response) -> Response:
        # The route, not the path: paths are the client's choice and would be labels without end.
        route = request.url_rule.rule if request.url_rule else "other"
        metrics.requests.labels(endpoint=route, status=response.status_code).inc()
        return response

    return app
