"""Who calls, and may they: API keys, for all routes that cost something.

Keys are a directory with a file for each, as Kubernetes mounts a Secret. A file's name is the client's name in logs and metrics,
its content the key. Read again every second, so that a key is added, changed or taken away without a restart.
"""

import hashlib
import hmac
import logging
import threading
import time
from pathlib import Path

from flask import Flask, request
from werkzeug.datastructures import WWWAuthenticate

from whisper_server.http.address import forwarded_scheme
from whisper_server.http.errors import NotEncrypted, WrongKey
from whisper_server.http.lifecycle import begin_call

log = logging.getLogger(__name__)

_FRESH_SECONDS = 1.0
_MAX_BYTES = 4096
_HOW = "send one as the header Authorization: Bearer KEY"


class KeysError(Exception):
    """The directory can't be read. The message is one line that says what to do."""


class ApiKeys:
    """The keys of one directory."""

    complaints: list[str]
    """What was wrong with them when they were read last, a line each; the first reading's are for the caller to tell."""

    def __init__(self, directory: str) -> None:
        """Raises KeysError where it can't be read now, or no key in it can; later on, the last that could be read count."""
        self._directory = Path(directory)
        self._reading = threading.Lock()
        self._digests: dict[str, bytes] = {}
        try:
            self._digests, unreadable, others = self._read()
        except OSError as problem:
            raise KeysError(
                f"WHISPER_API_KEYS_DIR={directory}: {problem.strerror}; mount a Secret there"
            ) from None
        # Such a server would become ready, replace those that work, and refuse everybody.
        if unreadable and not self._digests:
            raise KeysError(f"WHISPER_API_KEYS_DIR={directory} has no key that can be read: {unreadable[0]}")
        self.complaints = unreadable + others
        self._read_at = time.monotonic()

    def client_of(self, key: bytes) -> str | None:
        """The name of the client whose key this is; None: nobody's."""
        self._refresh()
        given, found = hashlib.sha256(key).digest(), None
        # All of them, each in constant time: how long it takes tells nothing about a key.
        for name, digest in self._digests.items():
            if hmac.compare_digest(digest, given):
                found = name
        return found

    def _refresh(self) -> None:
        if time.monotonic() - self._read_at < _FRESH_SECONDS or not self._reading.acquire(blocking=False):
            return
        before = self.complaints
        try:
            self._digests, unreadable, others = self._read()
            self.complaints = unreadable + others
        except OSError as problem:
            self.complaints = [f"the API keys can't be read, those known before stay valid: {problem}"]
        finally:
            self._read_at = time.monotonic()
            self._reading.release()
        for line in self.complaints:
            if line not in before:
                log.warning("%s", line)

    def _read(self) -> tuple[dict[str, bytes], list[str], list[str]]:
        """The digest of each key by its name, which others can't be read, and what is wrong with the rest, a line each: one file
        keeps no other's change from counting."""
        digests: dict[str, bytes] = {}
        unreadable, complaints = [], []
        for path in sorted(self._directory.iterdir()):
            # A mounted Secret also has ..data and the directory that it points to.
            if path.name.startswith("."):
                continue
            try:
                if not path.is_file():
                    continue
                with path.open("rb") as file:
                    key = file.read(_MAX_BYTES + 1).strip()
            except FileNotFoundError:
                continue  # taken away just now
            except OSError as problem:
                counts = "is nobody's until it can"
                if path.name in self._digests:
                    digests[path.name] = self._digests[path.name]
                    counts = "counts as before"
                unreadable.append(
                    f"the API key {path} can't be read ({problem.strerror}), and {counts}; mend or remove it"
                )
                continue
            # An empty key would let in whoever sends none.
            if not key:
                complaints.append(
                    f"the API key {path} is empty, and nobody's; write one into it, or remove it"
                )
            elif len(key) > _MAX_BYTES:
                complaints.append(
                    f"the API key {path} has more than {_MAX_BYTES} bytes, and is nobody's; choose a shorter one"
                )
            else:
                digests[path.name] = hashlib.sha256(key).digest()
        if not digests:
            complaints.append(
                f"WHISPER_API_KEYS_DIR={self._directory} has no key: every request is refused until it has"
            )
        return digests, unreadable, complaints


def install(app: Flask, keys: ApiKeys | None, proxies: int) -> None:
    """Begin a Call for each request of `app`, and refuse those that need a key and have none that is known."""

    @app.before_request
    def begin() -> None:
        call = begin_call(request, proxies)
        if keys is None or request.method == "OPTIONS" or not _is_protected(request.path):
            return  # a browser's preflight carries no key
        if forwarded_scheme(request) == "http":
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
