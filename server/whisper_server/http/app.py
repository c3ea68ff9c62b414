"""The public application: what port 8000 answers."""

import time

from flask import Flask, Response, jsonify, redirect, request
from werkzeug.wrappers import Response as WerkzeugResponse

from whisper_server import __version__
from whisper_server.http import auth, cors, errors
from whisper_server.http.address import forwarded_scheme
from whisper_server.http.auth import ApiKeys
from whisper_server.http.lifecycle import Call, Lifecycle, current
from whisper_server.http.routes import docs, openai, openapi, ui, whisper
from whisper_server.http.uploads import UploadRequest
from whisper_server.languages import NAMES
from whisper_server.metrics import Metrics

MAX_FORM_PARTS = 256  # each file among them is an open one


def create_app(lifecycle: Lifecycle, metrics: Metrics, keys: ApiKeys | None) -> Flask:
    """Wire the routes to the parts that do the work."""
    settings = lifecycle.settings
    app = Flask(__name__, static_folder=None)
    app.request_class = UploadRequest
    app.config["MAX_CONTENT_LENGTH"] = settings.max_upload_bytes
    app.config["MAX_FORM_PARTS"] = MAX_FORM_PARTS
    app.json.ensure_ascii = False  # type: ignore[attr-defined]  # of the default provider

    @app.after_request
    def finish(response: Response) -> Response:
        call = current()
        response.headers["X-Request-Id"] = call.id
        response.headers["X-Content-Type-Options"] = "nosniff"
        # The route, not the path: paths are the client's choice and would be labels without end.
        route = request.url_rule.rule if request.url_rule else "other"
        response.call_on_close(lambda: count(route, call.failed or response.status_code, call))
        return response

    def count(route: str, status: int, call: Call) -> None:
        metrics.requests.labels(endpoint=route, status=status).inc()
        metrics.client_requests.labels(client=call.key or "", status=status).inc()
        if call.audio_seconds:
            metrics.queue_seconds.observe(call.queue_seconds)
            if status == 200:
                metrics.request_seconds.observe(time.monotonic() - call.begin)

    errors.install(app)
    auth.install(app, keys, settings.proxies)
    cors.install(app, settings.cors_origins)
    app.register_blueprint(whisper.blueprint(lifecycle))
    app.register_blueprint(openai.blueprint(lifecycle))
    app.register_blueprint(ui.blueprint())
    app.register_blueprint(openapi.blueprint(settings, keys is not None))
    app.register_blueprint(docs.blueprint(settings, keys is not None))

    @app.get("/")
    def about() -> WerkzeugResponse:
        """Say what this is and how to use it; a browser is sent to the page."""
        if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
            # Not from the root: a proxy may have given this server a path of its own.
            page = redirect("ui")
            page.vary.add("Accept")
            return page
        info = lifecycle.scheduler.info
        is_encrypted = (forwarded_scheme(request) or request.scheme) == "https"
        root = request.url_root.replace("http://", "https://", 1) if is_encrypted else request.url_root
        key = "" if keys is None else ' -H "Authorization: Bearer KEY"'
        response = jsonify(
            name="whisper-server",
            version=__version__,
            model=openai.model_id(settings),
            translates=info.translates if info else None,
            language=settings.language,
            languages={code: NAMES[code] for code in info.languages} if info else None,
            key_needed=keys is not None,
            max_upload_bytes=settings.max_upload_bytes,
            max_audio_seconds=settings.max_audio_seconds,
            usage=f"curl{key} -F file=@speech.wav {root}whisper",
            endpoints={
                "POST /whisper": "audio files as multipart/form-data; their transcripts as JSON",
                "POST /v1/audio/transcriptions": "OpenAI's API; for its clients, the base URL ends in /v1",
                "POST /v1/audio/translations": "the same, into English",
                "GET /v1/models": "what is served",
                "GET /openapi.json": "all of it, for programs",
                "GET /docs": "all of it, to read",
                "GET /ui": "a page to try it",
            },
        )
        response.vary.add("Accept")
        return response

    return app
