"""Every error is JSON: in OpenAI's form under /v1, elsewhere {"error": "what is wrong and what to do"}."""

import logging
import re
from typing import Any

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import (
    BadRequest,
    Forbidden,
    HTTPException,
    InternalServerError,
    MethodNotAllowed,
    NotFound,
    RequestTimeout,
    Unauthorized,
)

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
_VARIABLE = re.compile("<[^>]*>")
"""In a route."""
PASSING = (408, 429, 499, 500, 503)
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


def form_of(
    path: str, message: str, status: int, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """An error as it is worded for a path."""
    return openai_form(message, status, param, code) if path.startswith("/v1/") else {"error": message}


def explain(problem: Exception) -> HTTPException:
    """What is told of anything that was raised: of a fault of ours, only the id under which the log says more."""
    if isinstance(problem, HTTPException):
        return problem
    call = g.get("call")
    id = call.id if call else "none"
    log.error("request %s: unexpected error", id, exc_info=problem)
    return InternalServerError(f"internal error; the server's log says more, of the request {id}")


def limit(variable: str) -> str:
    """A limit's name where it is set: for the server, and for the operator that runs it."""
    first, *rest = variable.removeprefix("WHISPER_").lower().split("_")
    return f"{variable}, or limits.{first}{''.join(map(str.capitalize, rest))} of a WhisperEndpoint"


def install(app: Flask) -> None:
    """Answer all errors of `app` in JSON, with the headers (Allow, Retry-After) that belong to them."""

    def answer(status: int, message: str, problem: Exception) -> Response:
        param, code = getattr(problem, "param", None), getattr(problem, "reason", None)
        response = jsonify(form_of(request.path, message, status, param, code))
        response.status_code = status
        if status not in PASSING:
            # OpenAI's clients would otherwise try again what can't succeed.
            response.headers["x-should-retry"] = "false"
        return response

    @app.errorhandler(Exception)
    def every(problem: Exception) -> Response:
        known = explain(problem)
        response = answer(known.code or 500, _with_what_exists(app, known), known)
        for name, value in known.get_headers():
            if name.lower() not in ("content-type", "content-length"):
                response.headers[name] = value
        return response


def _with_what_exists(app: Flask, problem: HTTPException) -> str:
    """The description; of a path or method that does not exist, which do."""
    if isinstance(problem, MethodNotAllowed):
        possible = set(problem.valid_methods or ()) - {"HEAD", "OPTIONS"}
        return f"{request.method} is not possible here; use {' or '.join(sorted(possible))}"
    if isinstance(problem, NotFound) and problem.description == NotFound.description:
        there = (
            f"{method} {_VARIABLE.sub('NAME', rule.rule)}"
            for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule)
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
        )
        return f"there is no {request.path[:100]} here, but {', '.join(there)}"
    return problem.description or ""
