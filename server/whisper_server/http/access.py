"""Who calls, and may they: API keys, for all routes that cost something."""

from flask import Flask, request
from werkzeug.datastructures import WWWAuthenticate

from whisper_server.http import calls
from whisper_server.http.errors import NotEncrypted, WrongKey
from whisper_server.http.keys import ApiKeys

_HOW = "send one as the header Authorization: Bearer KEY"


def install(app: Flask, keys: ApiKeys | None) -> None:
    """Begin a Call for each request of `app`, and refuse those that need a key and have none that is known."""

    @app.before_request
    def begin() -> None:
        call = calls.begin(request)
        if keys is None or request.method == "OPTIONS" or not _is_protected(request.path):
            return  # a browser's preflight carries no key
        if request.headers.get("X-Forwarded-Proto", "https").strip().lower() == "http":
            raise NotEncrypted(
                "this server needs an API key, which must not be sent without encryption; use https://"
            )
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise WrongKey(f"an API key is needed; {_HOW}", www_authenticate=WWWAuthenticate("bearer"))
        call.key = keys.client_of(key.strip().encode("latin-1", "replace"))
        if call.key is None:
            challenge = WWWAuthenticate("bearer", {"error": "invalid_token"})
            raise WrongKey(f"this API key is not known; {_HOW}", www_authenticate=challenge)
        call.client = call.key


def _is_protected(path: str) -> bool:
    return path == "/whisper" or path.startswith("/v1/")
