"""/healthz, /readyz and /metrics: on a port of their own, for the cluster and not for the public."""

from collections.abc import Callable

from flask import Flask, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from whisper_server.http import errors
from whisper_server.http.admission import State


def create_app(state: Callable[[], State], registry: CollectorRegistry) -> Flask:
    """The application of the operations port."""
    app = Flask(__name__, static_folder=None)
    errors.install(app)

    @app.get("/healthz")
    def healthz() -> tuple[Response, int]:
        """200 as long as the process lives, which one whose device was lost does not; 503 when the device hangs."""
        if state() is State.STALLED:
            return jsonify(status="the device hangs: work waits, and nothing is computed"), 503
        return jsonify(status="ok"), 200

    @app.get("/readyz")
    def readyz() -> tuple[Response, int]:
        """200 once the model is loaded and warm; 503 while loading and while draining."""
        now = state()
        return jsonify(status=now.value), 200 if now is State.READY else 503

    @app.get("/metrics")
    def metrics() -> Response:
        """Prometheus's text format."""
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return app
