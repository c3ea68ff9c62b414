"""The Kubernetes API in the few verbs that the operator needs: the only module that talks HTTP.

Objects go in and come out as dicts; what may come instead is in errors.py.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import aiohttp
from kubernetes.aio import client

from whisper_operator.kube import answers, metrics
from whisper_operator.kube.errors import NoSuchKind, OutOfTime, Refused, Unavailable
from whisper_operator.kube.kinds import EVENT, FIELD_MANAGER, HASH_ANNOTATION, POD, Kind
from whisper_operator.kube.slots import Slots
from whisper_operator.kube.under_way import Write, Writes

REQUEST_SECONDS = 30.0
CONNECTING_SECONDS = 1.0
"""That a write may take until it is sent."""
ANSWER_SECONDS = 1.0
"""That an answer may take beyond what the API server was given for a write: it then says that it gave up."""
LISTS = "/lists"
"""The lists of a kind count as a namespace of their own: neither writes nor a kind that hangs hold them up."""
PAGE = 50
"""Objects to a page of a list: a thousand at once, and their memory would stay with the process."""


class Api:
    """A connection to one API server."""

    def __init__(self, connection: client.ApiClient, request_seconds: float = REQUEST_SECONDS) -> None:
        self._connection = connection
        self._request_seconds = request_seconds
        self._slots = Slots()
        self._writes = Writes()
        connection.configuration.trace_configs = [self._writes.trace]
        self.may_write: Callable[[str], float] = lambda namespace: math.inf
        """Asked before each write to a namespace, and once more when it is sent: within how many seconds it has to be over.
        Raises NotLeading if it must not be made."""

    async def written(self, seconds: float) -> bool:
        """Wait so long for the writes that are under way; whether none is by then, on either side."""
        return await self._writes.over(seconds)

    @property
    def server(self) -> str:
        """Its URL."""
        return str(self._connection.configuration.host)

    def session(self, *middlewares: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
        """A session of its own to the same API server and with the same credentials; to be closed by whoever asked for it."""
        configuration, rest = self._connection.configuration, self._connection.rest_client

        async def authorize(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            for setting in (await configuration.auth_settings()).values():
                request.headers[setting["key"]] = setting["value"]
            request.server_hostname = configuration.tls_server_name
            return await handler(request)

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=rest.ssl_context),
            middlewares=(*middlewares, authorize),
            proxy=rest.proxy,
            trust_env=configuration.client_session_kwargs["trust_env"],
        )

    async def server_version(self) -> str:
        """The API server's own, such as v1.31.0."""
        return str((await self._request("get", "/version")).get("gitVersion"))

    async def log(self, namespace: str, pod: str, container: str, *, lines: int, most: int) -> str:
        """The last lines that a container has written, and no more than so many bytes."""
        path = POD.path(namespace, pod, "log")
        text = await self._ask(
            "get", path, accept="*/*", container=container, tailLines=str(lines), limitBytes=str(most)
        )
        return text.decode(errors="replace")

    async def get(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any] | None:
        """The object as it is now, or None if there is none of that name (or no such kind)."""
        try:
            return await self._request("get", kind.path(namespace, name))
        except Refused as error:
            if error.status == 404:
                return None
            raise

    async def list_all(
        self,
        kind: Kind,
        namespace: str | None,
        labels: str | None,
        fields: str | None,
        take: Callable[[dict[str, Any]], None],
        *,
        page: int = PAGE,
    ) -> int | None:
        """Hand to `take` every object in the namespace (None: in the cluster) that the selectors match, page by page of
        so many; the list's resourceVersion. None: no such kind. After a list that grew too old, it takes everything once more.
        """
        token: str | None = None
        while True:
            try:
                found = await self._request(
                    "get",
                    kind.path(namespace),
                    share=f"{LISTS}/{kind.qualified}",
                    labelSelector=labels,
                    fieldSelector=fields,
                    limit=str(page),
                    **({"continue": token} if token else {}),
                )
            except NoSuchKind:
                return None
            except Refused as error:
                if error.status == 410:  # The list grew too old between two pages: once more from the start.
                    token = None
                    continue
                raise
            for item in found["items"]:
                take(item)
            token = found["metadata"].get("continue")
            if not token:
                return int(found["metadata"]["resourceVersion"])

    async def apply(self, kind: Kind, body: Mapping[str, Any], *, force: bool) -> dict[str, Any]:
        """Server-side apply of all that the operator declares of an object; its new state. Raises Refused, Conflict.

        Without `force`, a field of another manager's with another value is a Conflict instead of taken over. So is, in either
        case, an object of another uid or resourceVersion than `body` names.
        """
        metadata = body["metadata"]
        return await self._write(
            "apply",
            kind,
            "patch",
            kind.path(metadata["namespace"], metadata["name"]),
            body=body,
            content_type="application/apply-patch+yaml",
            fieldManager=FIELD_MANAGER,
            force="true" if force else "false",
        )

    async def hand_over(
        self, kind: Kind, live: Mapping[str, Any], managed_fields: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Write down which fields of an object are whose, in the state `live` and no other: values stay as they are. Returns its
        new state.

        To be followed by an apply, and it takes away the hash of the last one: whatever comes in between, it is made up for.
        """
        metadata = live["metadata"]
        body = {name: metadata[name] for name in ("uid", "resourceVersion")}
        body |= {"managedFields": list(managed_fields), "annotations": {HASH_ANNOTATION: None}}
        return await self._write(
            "hand over",
            kind,
            "patch",
            kind.path(metadata["namespace"], metadata["name"]),
            body={"metadata": body},
            content_type="application/merge-patch+json",
            fieldManager=FIELD_MANAGER,
        )

    async def scale(self, kind: Kind, namespace: str, name: str, uid: str, replicas: int) -> None:
        """Set the number of replicas of that very object by its scale subresource, where no other field is looked at."""
        await self._write(
            "scale",
            kind,
            "patch",
            kind.path(namespace, name, "scale"),
            body={"metadata": {"uid": uid}, "spec": {"replicas": replicas}},
            content_type="application/merge-patch+json",
            fieldManager=FIELD_MANAGER,
        )

    async def annotate(
        self, kind: Kind, namespace: str, name: str, uid: str, annotations: Mapping[str, str | None]
    ) -> dict[str, Any]:
        """Set annotations of that very object, or take them away (None), and leave it as it is otherwise; its new state."""
        return await self._write(
            "annotate",
            kind,
            "patch",
            kind.path(namespace, name),
            body={"metadata": {"uid": uid, "annotations": dict(annotations)}},
            content_type="application/merge-patch+json",
            fieldManager=FIELD_MANAGER,
        )

    async def patch_status(
        self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Merge patch of the status subresource; the object's new state."""
        return await self._write(
            "status",
            kind,
            "patch",
            kind.path(namespace, name, "status"),
            body=body,
            content_type="application/merge-patch+json",
            fieldManager=FIELD_MANAGER,
        )

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> dict[str, Any] | None:
        """Delete that very object; fine if it is gone already. Its new state if a finalizer holds it, or None."""
        try:
            answer = await self._write(
                "delete",
                kind,
                "delete",
                kind.path(namespace, name),
                body={"preconditions": {"uid": uid}, "propagationPolicy": "Background"},
            )
        except Refused as error:
            if error.status != 404:
                raise
            return None
        return answer if answer.get("kind") == kind.name else None

    async def create(self, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object; its state. Raises Conflict if there is one."""
        path = kind.path(body["metadata"].get("namespace"))
        return await self._write("create", kind, "post", path, body=body)

    async def update(self, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the object in the state that `body` names by its resourceVersion, and in no other; its new state. Raises
        Conflict."""
        metadata = body["metadata"]
        path = kind.path(metadata["namespace"], metadata["name"])
        return await self._write("update", kind, "put", path, body=body)

    async def create_event(self, body: Mapping[str, Any]) -> None:
        """Publish a core/v1 Event."""
        await self._write("event", EVENT, "post", EVENT.path(body["metadata"]["namespace"]), body=body)

    async def _write(self, what: str, kind: Kind, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = await self._request(method, path, **options)
        metrics.WRITES.labels(what, kind.name).inc()
        return answer

    async def _request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The answer's object."""
        text = await self._ask(method, path, **options)
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Unavailable(f"{method.upper()} {path}: the answer is no object")
        return answer

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        share: str | None = None,
        **parameters: str | None,
    ) -> bytes:
        """The answer's text. `share`: whose requests it counts among, if not the namespace's in `path`; `parameters` are those
        of the URL, by the API's names."""
        what, namespace = f"{method.upper()} {path}", _namespace_of(path)
        seconds = self._request_seconds

        def left() -> float:
            """Seconds until a write has to be over; as long as it takes, if it is refused once another has written."""
            seconds = self.may_write(namespace)
            return math.inf if _names_its_state(body) else seconds

        try:
            async with self._slots.one(share or namespace):
                if method != "get":  # not earlier: the slot may have been waited for
                    seconds = min(seconds, left() - CONNECTING_SECONDS)
                    parameters["timeout"] = f"{seconds:.1f}s"
                request = await self._connection.param_serialize(
                    method.upper(),
                    path,
                    query_params=[(name, value) for name, value in parameters.items() if value is not None],
                    header_params={"Accept": accept, "Content-Type": content_type},
                    body=body,
                    auth_settings=["BearerToken"],
                )
                with self._writes.one(Write(left, seconds)) if method != "get" else nullcontext():
                    response = await self._connection.call_api(
                        *request, _request_timeout=min(seconds + ANSWER_SECONDS, self._request_seconds)
                    )
                    text: bytes = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            metrics.REQUEST_ERRORS.labels("unavailable").inc()
            raise Unavailable(f"{what}: {type(error).__name__}: {error}") from error
        if not 200 <= response.status <= 299:
            failure = answers.failure(what, response.status, text, answers.retry_after(response.headers))
            if response.status == 504 and seconds < self._request_seconds:
                failure = OutOfTime(
                    f"{failure}: not done within {seconds:.0f} s, as behind a slow admission webhook"
                )
            if response.status != 404:
                metrics.REQUEST_ERRORS.labels(answers.counted_as(failure)).inc()
            raise failure
        return text


def _names_its_state(body: Any) -> bool:
    """Whether a write is about an object in one state, or one that is not there, and in no other."""
    return isinstance(body, Mapping) and "resourceVersion" in (body.get("metadata") or {})


def _namespace_of(path: str) -> str:
    """The namespace that a request is about; "" of none."""
    _, _, rest = path.partition("/namespaces/")
    return rest.partition("/")[0]
