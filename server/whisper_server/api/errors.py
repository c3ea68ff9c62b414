"""Every error of the API is JSON: {"error": "what is wrong and what to do"}."""

import logging

from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException

log = logging.getLogger(__name__)


def install(app: Flask) -> None:
    """Answer all errors of `app` in JSON, with the headers (Allow, Retry-After) that belong to them."""

    @app.errorhandler(HTTPException)
    def known(problem: HTTPException) -> Response:
        response = jsonify(error=problem.description)
        response.status_code = problem.code or 500
        for name, value in problem.get_headers():
            if name.lower() not in ("content-type", "content-length"):
                response.headers[name] = value
        return response

    @app.errorhandler(Exception)
    def unknown(problem: Exception) -> tuple[Response, int]:
        log.error("unexpected error", exc_info=problem)
        return jsonify(error="internal error; the server's log says more"), 500
