"""The API key: from a file or the environment, or else from the Secret that the endpoint names, read with the user's rights.

Never an argument, which everybody on the machine could read, and never printed.
"""

import base64
import binascii
import os
from dataclasses import dataclass, field
from pathlib import Path

from whisper_operator.observed.foreign_words import printable
from whisper_operator.plugin.endpoint import Endpoint
from whisper_operator.plugin.failure import NOT_BEGUN, Failure
from whisper_operator.plugin.kubectl import FORBIDDEN, NOT_FOUND, Kubectl, Refused

VARIABLE = "WHISPER_API_KEY"
OTHERWISE = f"or give a key by --key-file FILE or the variable {VARIABLE}"


@dataclass(frozen=True)
class Key:
    value: str = field(repr=False)
    origin: str
    """Where it is from, for messages."""


def find(kubectl: Kubectl, endpoint: Endpoint, file: Path | None, client: str | None) -> Key | None:
    """None: the endpoint needs none. Raises Failure."""
    if client is not None and (endpoint.secret is None or file is not None):
        raise Failure(
            "--client chooses a key of the endpoint's Secret: "
            + ("--key-file names one already" if file else f"WhisperEndpoint {endpoint.title} needs no keys"),
            NOT_BEGUN,
        )
    if endpoint.secret is None:
        return None
    if file is not None:
        try:
            return _checked(file.read_text(), f"the file {file}")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise Failure(f"the key in {file} can't be read: {reason}", NOT_BEGUN) from None
    if client is None and os.environ.get(VARIABLE, "").strip():
        return _checked(os.environ[VARIABLE], f"the variable {VARIABLE}")
    return _from_secret(kubectl, endpoint, endpoint.secret, client)


def _from_secret(kubectl: Kubectl, endpoint: Endpoint, name: str, client: str | None) -> Key:
    where = f"Secret {endpoint.namespace}/{name}"
    try:
        data = kubectl.get("secret", name, "-n", endpoint.namespace).get("data") or {}
    except Refused as refused:
        if refused.reason == FORBIDDEN:
            raise Failure(
                f"WhisperEndpoint {endpoint.title} takes only who has a key, and you may not read {where}, where they are. "
                f"`kubectl auth can-i get secret/{name} -n {endpoint.namespace}` asks for it. Ask who runs the endpoint for the "
                f"right or for a key, {OTHERWISE}.",
                NOT_BEGUN,
            ) from None
        if refused.reason == NOT_FOUND:
            raise Failure(
                f"{where}, which spec.auth of WhisperEndpoint {endpoint.title} names, does not exist: create it, {OTHERWISE}",
                NOT_BEGUN,
            ) from None
        raise
    clients = sorted(each for each, value in data.items() if value)
    if not clients:
        raise Failure(f"{where} has no keys: add one, {OTHERWISE}", NOT_BEGUN)
    if client is not None and client not in clients:
        raise Failure(f"{where} has no key named {client}; it has {printable(', '.join(clients))}", NOT_BEGUN)
    chosen = client or clients[0]
    try:
        value = base64.b64decode(data[chosen], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise Failure(
            f"the key {chosen} in {where} is no text: choose another by --client", NOT_BEGUN
        ) from None
    return _checked(value, f"{chosen} in {where}")


def _checked(text: str, origin: str) -> Key:
    value = text.strip()
    if not value or not value.isascii() or not value.isprintable():
        raise Failure(
            f"the key from {origin} can't be one: it is empty, or has characters that no HTTP header takes",
            NOT_BEGUN,
        )
    return Key(value, origin)
