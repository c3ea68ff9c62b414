"""The few calls to the API server that the stand-in needs, over one connection pool."""

import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml

Object = dict[str, Any]


class ApiError(Exception):
    """The API server refused: its HTTP status and its message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Client:
    """An API server and an identity, from a kubeconfig with a token."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._server = cluster["server"]
        self._token = config["users"][0]["user"]["token"]
        self._tls = ssl.create_default_context(cadata=authority)
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            self._server,
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=0),
            headers={"Authorization": f"Bearer {self._token}", "User-Agent": "gke-stand-in"},
            timeout=aiohttp.ClientTimeout(total=30),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, path: str, parameters: dict[str, str] | None = None) -> Object:
        """An object, or a list of them. Raises ApiError."""
        return await self._send("GET", path, parameters=parameters)

    async def create(self, path: str, body: Object) -> Object:
        """Create an object in the collection `path`. Raises ApiError."""
        return await self._send("POST", path, body, "application/json")

    async def merge(self, path: str, body: Object, manager: str) -> Object:
        """Change an object by a JSON merge patch, as field manager `manager`. Raises ApiError."""
        return await self._send(
            "PATCH", path, body, "application/merge-patch+json", {"fieldManager": manager}
        )

    async def watch(self, path: str, version: str, seconds: int) -> AsyncIterator[Object]:
        """What changes in a collection after a resourceVersion, for so many seconds. Raises ApiError, 410 if too long ago."""
        parameters = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_read=seconds + 30)
        async with self._session.get(path, params=parameters, timeout=timeout) as answer:
            if answer.status >= 400:
                raise ApiError(answer.status, await answer.text())
            buffer = bytearray()
            async for chunk in answer.content.iter_any():
                buffer += chunk
                *lines, rest = buffer.split(b"\n")
                buffer = bytearray(rest)
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise ApiError(event["object"].get("code", 500), event["object"].get("message", ""))
                    yield event

    async def _send(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        content_type: str | None = None,
        parameters: dict[str, str] | None = None,
    ) -> Object:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type} if content_type else {}
        async with self._session.request(
            method, path, params=parameters, data=data, headers=headers
        ) as answer:
            if answer.status >= 400:
                text = await answer.text()
                with contextlib.suppress(ValueError, KeyError):
                    text = json.loads(text)["message"]
                raise ApiError(answer.status, text)
            result: Object = await answer.json()
            return result
