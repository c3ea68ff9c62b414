"""/openapi.json: the whole API for programs, made from the tables that serve it."""

from typing import Any

from flask import Blueprint, Response, jsonify

from whisper_server import __version__
from whisper_server.audio.ffmpeg import FORMATS_FOR_PEOPLE
from whisper_server.config import Settings
from whisper_server.http.form.fields import FIELDS

_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}
_INTEGER = {"type": "integer"}

ERRORS = {
    400: "a field or file that makes no sense, or a malformed body; the message says what to do",
    401: "no API key, or an unknown one",
    403: "an API key sent without encryption",
    404: "what is named is not there",
    408: "the body came too slowly",
    413: "more bytes or seconds than the limits allow",
    415: "a body that is not multipart/form-data",
    429: "the queue is full; come back after Retry-After seconds",
    500: "a fault of the server",
    503: "loading, draining, or not done in time; come back after Retry-After seconds",
}
_UPLOAD_ERRORS = (400, 408, 413, 415, 429, 500, 503)
_KEY_ERRORS = (401, 403)


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


_FLOATS = ("start", "end", "temperature", "avg_logprob", "compression_ratio", "no_speech_prob")
SCHEMAS: dict[str, Any] = {
    "Segment": _object(
        {
            "id": _INTEGER,
            "seek": _INTEGER,
            "text": _TEXT,
            "tokens": _list(_INTEGER),
            **dict.fromkeys(_FLOATS, _NUMBER),
        }
    ),
    "Word": _object({"word": _TEXT, "start": _NUMBER, "end": _NUMBER}),
    "Usage": _object({"type": {"const": "duration"}, "seconds": _INTEGER}),
    "Logprob": _object({"token": _TEXT, "logprob": _NUMBER, "bytes": _list(_INTEGER)}),
    "Transcription": _object(
        {"text": _TEXT, "usage": _ref("Usage"), "logprobs": _list(_ref("Logprob"))}, optional=("logprobs",)
    ),
    "VerboseTranscription": _object(
        {
            "task": {"enum": ["transcribe", "translate"]},
            "language": _TEXT,
            "duration": _NUMBER,
            "text": _TEXT,
            "segments": _list(_ref("Segment")),
            "words": _list(_ref("Word")),
            "usage": _ref("Usage"),
        },
        optional=("segments", "words"),
    ),
    "Transcripts": _object({"results": _list(_object({"filename": _TEXT, "transcript": _TEXT}))}),
    "Model": _object({"id": _TEXT, "object": {"const": "model"}, "created": _INTEGER, "owned_by": _TEXT}),
    "Models": _object({"object": {"const": "list"}, "data": _list(_ref("Model"))}),
    "Error": _object({"error": _TEXT}),
    "OpenAIError": _object(
        {
            "error": _object(
                {
                    "message": _TEXT,
                    "type": _TEXT,
                    "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "null"]},
                }
            )
        }
    ),
    "AudioRequest": {
        "type": "object",
        "properties": {
            "file": {
                "type": "string",
                "format": "binary",
                "description": f"{FORMATS_FOR_PEOPLE}; of a video, its sound",
            },
            **{
                name: {**entry.schema, **({"description": entry.meaning} if entry.meaning else {})}
                for name, entry in FIELDS.items()
            },
        },
        "required": ["file"],
        "additionalProperties": False,
    },
}


def document(settings: Settings, needs_key: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a server with these settings."""
    audio = {
        "application/json": {"schema": {"anyOf": [_ref("Transcription"), _ref("VerboseTranscription")]}},
        "text/plain": {"schema": _TEXT},
        "application/x-subrip": {"schema": _TEXT},
        "text/vtt": {"schema": _TEXT},
        "text/event-stream": {"schema": _TEXT},
    }
    upload = {"required": True, "content": {"multipart/form-data": {"schema": _ref("AudioRequest")}}}
    files = {"type": "object", "additionalProperties": {"type": "string", "format": "binary"}}
    whisper = {"required": True, "content": {"multipart/form-data": {"schema": files}}}
    name = {"name": "model", "in": "path", "required": True, "schema": _TEXT}

    def operation(
        summary: str, content: dict[str, Any], statuses: tuple[int, ...], **more: Any
    ) -> dict[str, Any]:
        openai = more.pop("openai", True)
        error = {"application/json": {"schema": _ref("OpenAIError" if openai else "Error")}}
        keyed = _KEY_ERRORS if needs_key and more.pop("keyed", True) else ()
        more.pop("keyed", None)
        responses = {"200": {"description": "done", "content": content}} | {
            str(status): {"description": ERRORS[status], "content": error}
            for status in sorted((*keyed, *statuses))
        }
        security: dict[str, Any] = {"security": [{"key": []}]} if keyed else {}
        return {"summary": summary, "responses": responses, **security, **more}

    def json(schema: str) -> dict[str, Any]:
        return {"application/json": {"schema": _ref(schema)}}

    def public(summary: str, kind: str) -> dict[str, Any]:
        return operation(summary, {kind: {"schema": {}}}, (), keyed=False, openai=False)

    uploads = (*_UPLOAD_ERRORS, 404)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "whisper-server",
            "version": __version__,
            "description": f"Speech to text with {settings.model}.",
        },
        "paths": {
            "/": {"get": public("What runs here", "application/json")},
            "/ui": {"get": public("A page to try it", "text/html")},
            "/ui/{name}": {
                "get": operation(
                    "Parts of the page",
                    {"*/*": {"schema": {}}},
                    (404,),
                    keyed=False,
                    openai=False,
                    parameters=[{**name, "name": "name"}],
                )
            },
            "/docs": {"get": public("This document, to read", "text/html")},
            "/openapi.json": {"get": public("This document", "application/json")},
            "/whisper": {
                "post": operation(
                    "Transcribe files, of any field names",
                    json("Transcripts"),
                    _UPLOAD_ERRORS,
                    requestBody=whisper,
                    openai=False,
                )
            },
            "/v1/audio/transcriptions": {"post": operation("Transcribe", audio, uploads, requestBody=upload)},
            "/v1/audio/translations": {
                "post": operation("Translate into English", audio, uploads, requestBody=upload)
            },
            "/v1/models": {"get": operation("The models served", json("Models"), ())},
            "/v1/models/{model}": {"get": operation("One model", json("Model"), (404,), parameters=[name])},
        },
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}} if needs_key else {},
        },
    }


def blueprint(settings: Settings, needs_key: bool) -> Blueprint:
    """The route of the document."""
    routes = Blueprint("openapi", __name__)
    made = document(settings, needs_key)

    @routes.get("/openapi.json")
    def openapi() -> Response:
        """The document."""
        return jsonify(made)

    return routes
