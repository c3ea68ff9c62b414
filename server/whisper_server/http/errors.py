"""Every error is JSON: in OpenAI's form under /v1, elsewhere {"error": "what is wrong and what to do"}."""

import logging
from typing import Any

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import BadRequest, Forbidden, HTTPException, NotFound, RequestTimeout, Unauthorized

log = logging.getLogger(__name__)

_CODES = {
    401: "invalid_api_key",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    415: "unsupported_media_type",
    429: "rate_limit_exceeded",
    503: "unavailable",
}
_PASSING = (408, 429, 499, 500, 503)
"""Statuses after which trying the same again makes sense."""


class BadField(BadRequest):
    """A form field that makes no sense."""

    def __init__(self, name: str, problem: str) -> None:
        self.param = name[:100]
        super().__init__(f"{self.param or 'a field without a name'}: {problem}")


class UnknownModel(NotFound):
    """A model that is not served here."""

    reason = "model_not_found"
    param = "model"


class WrongKey(Unauthorized):
    """No API key, or one that nobody has."""


class NotEncrypted(Forbidden):
    """A key must not travel in the clear."""

    reason = "https_required"


class TooSlow(RequestTimeout):
    """The body took too long to come."""


class ClientGone(HTTPException):
    """The client hung up: for the log only, nobody reads the answer."""

    code = 499
    description = "the client closed the connection"


def openai_form(
    message: str, status: int, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """An error as OpenAI's API words it."""
    kind = (
        "rate_limit_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
    )
    return {"error": {"message": message, "type": kind, "param": param, "code": code or _CODES.get(status)}}


def install(app: Flask) -> None:
    """Answer all errors of `app` in JSON, with the headers (Allow, Retry-After) that belong to them."""

    def answer(status: int, message: str, problem: Exception) -> Response:
        if request.path.startswith("/v1/"):
            param, code = getattr(problem, "param", None), getattr(problem, "reason", None)
            response = jsonify(openai_form(message, status, param, code))
        else:
            response = jsonify(error=message)
        response.status_code = status
        if status not in _PASSING:
            # OpenAI's clients would otherwise try again what can't succeed.
            response.headers["x-should-retry"] = "false"
        return response

    @app.errorhandler(HTTPException)
    def known(problem: HTTPException) -> Response:
        response = answer(problem.code or 500, problem.description or "", problem)
        for name, value in problem.get_headers():
            if name.lower() not in ("content-type", "content-length"):
                response.headers[name] = value
        return response

    @app.errorhandler(Exception)
    def unknown(problem: Exception) -> Response:
        log.error("unexpected error", exc_info=problem)
        return answer(500, "internal error; the server's log says more", problem)
