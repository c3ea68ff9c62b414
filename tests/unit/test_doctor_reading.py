"""How doctor reads: in bounded time, and whatever fails stops nothing else."""

import asyncio
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from whisper_operator.doctor import examination
from whisper_operator.doctor.examination import NothingRead, Report, examine
from whisper_operator.doctor.facts import Answer
from whisper_operator.doctor.finding import Gap, Result, Well
from whisper_operator.doctor.gathering import Asked, NoSuchEndpoint, gather
from whisper_operator.doctor.reading import Reader
from whisper_operator.doctor.resolver import UNANSWERED, look_up, resolve
from whisper_operator.kube.kinds import ENDPOINT, NODE
from whisper_operator.leader.installations import ACCOUNT_ANNOTATION, ALL, LEADER, SCOPE_ANNOTATION

from tests.unit.diagnosing import deployment, facts, judged, raw
from tests.unit.test_client import connected

Serve = Callable[[web.Request], Awaitable[web.Response]]
EMPTY: dict[str, Any] = {"items": [], "metadata": {"resourceVersion": "1"}}
POD = raw("operator-1", "home", spec={"containers": [{"name": "operator"}]})


def refused(code: int, reason: str) -> web.Response:
    text = '{"kind":"Status","status":"Failure","message":"' + reason + '"}'
    return web.Response(status=code, text=text, content_type="application/json")


async def empty(request: web.Request) -> web.Response:
    """A cluster without anything."""
    parts = request.path.strip("/").split("/")
    is_list = parts[-1] not in ("whisper-operator", "whisperendpoints.whisper-operator.io", "w")
    return web.json_response(EMPTY) if is_list else refused(404, "not found")


def but(path: str, answer: Serve) -> Serve:
    async def serve(request: web.Request) -> web.Response:
        return await (answer if request.path.endswith(path) else empty)(request)

    return serve


async def report(serve: Serve, *, seconds: float = 30.0, asked: Asked | None = None) -> Report:
    async with connected(serve) as api:
        api._request_seconds = seconds
        return await examine(api, asked or Asked("asr"), lambda names: dict.fromkeys(names, Answer()))


def unread(given: Report) -> list[str]:
    return [each.problem for each in given.findings if each.severity == "not-checked"]


async def test_of_an_empty_cluster_it_says_that_nothing_is_installed() -> None:
    given = await report(empty)
    assert [each.code for each in given.findings] == ["CRDMissing", "OperatorMissing"]


async def test_a_kind_that_hangs_is_given_up_and_the_rest_is_told() -> None:
    async def hang(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        raise AssertionError

    began = time.monotonic()
    given = await report(but("/leases", hang), seconds=0.5)
    assert time.monotonic() - began < 20
    assert [each.code for each in given.findings] == ["CRDMissing", "OperatorMissing", "NotReadable"]
    assert (
        "Other installations: not checked: list leases.coordination.k8s.io in the whole cluster: GET"
        in unread(given)[0]
    )


async def test_a_list_without_an_end_is_given_up() -> None:
    async def endless(_: web.Request) -> web.Response:
        return web.json_response({**EMPTY, "metadata": {"resourceVersion": "1", "continue": "more"}})

    async with connected(endless) as api:
        reader = Reader(api, seconds=0.5)
        found = await reader.list(NODE, None)
    assert isinstance(found, Gap)
    assert found.words == "list nodes in the whole cluster: it took longer than 0.5 s"
    assert reader.reached == 0


@pytest.mark.parametrize("status", [403, 500, 503, 429, 400])
async def test_what_is_refused_is_told_and_stops_nothing(status: int) -> None:
    async def no(_: web.Request) -> web.Response:
        return refused(status, "no")

    given = await report(but("/leases", no))
    assert [each.code for each in given.findings][:2] == ["CRDMissing", "OperatorMissing"]
    (words,) = unread(given)
    if status == 403:
        assert words == (
            "Other installations: not checked: needs the right to list leases.coordination.k8s.io in the whole cluster"
        )
    else:
        assert words.startswith(
            "Other installations: not checked: list leases.coordination.k8s.io in the whole cluster: "
        )


async def test_an_answer_that_is_none_of_an_api_servers_is_told_and_stops_nothing() -> None:
    async def nonsense(_: web.Request) -> web.Response:
        return web.Response(text="<html>")

    async def strange(_: web.Request) -> web.Response:
        return web.json_response({"items": "no"})

    for answer in (nonsense, strange):
        given = await report(but("/leases", answer))
        assert [each.code for each in given.findings][:2] == ["CRDMissing", "OperatorMissing"]
        (words,) = unread(given)
        assert words.startswith("Other installations: not checked: list leases")


async def test_an_endpoint_that_is_not_there_is_no_examination() -> None:
    async def crd(_: web.Request) -> web.Response:
        kind = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
        return web.json_response({**kind, "metadata": {"name": "x", "uid": "u"}})

    with pytest.raises(NoSuchEndpoint, match="there is no WhisperEndpoint w in namespace asr"):
        await report(but("/whisperendpoints.whisper-operator.io", crd), asked=Asked("asr", "w"))
    given = await report(empty, asked=Asked("asr", "w"))
    assert given.findings[0].code == "CRDMissing", "else it would be looked for in vain"


async def test_where_nothing_may_be_read_there_is_no_examination() -> None:
    async def no(_: web.Request) -> web.Response:
        return refused(403, "no")

    with pytest.raises(
        NothingRead, match=f"not even the right to list {ENDPOINT.qualified} in namespace asr"
    ):
        await report(no)


async def test_who_may_not_ask_for_rights_asks_once() -> None:
    asked: list[str] = []

    async def serve(request: web.Request) -> web.Response:
        asked.append(request.path)
        if request.path.endswith("/deployments") and "fieldSelector" in request.query:
            pod = {"containers": [{"name": "operator", "image": "x"}]}
            deployment = {
                "metadata": {"name": "whisper-operator", "namespace": "here", "uid": "u"},
                "spec": {"template": {"spec": pod}},
                "status": {"availableReplicas": 1},
            }
            return web.json_response({**EMPTY, "items": [deployment]})
        if request.method == "POST":
            return refused(403, "no")
        return await empty(request)

    given = await report(serve)
    assert sum("subjectaccessreviews" in path for path in asked) == 1
    assert any("create subjectaccessreviews.authorization.k8s.io" in each for each in unread(given))


async def test_an_installation_under_an_account_of_its_own_is_not_taken_for_made_up() -> None:
    def rival(namespace: str, account: str) -> dict[str, Any]:
        lease = raw(LEADER, namespace)
        lease["metadata"]["annotations"] = {SCOPE_ANNOTATION: ALL, ACCOUNT_ANNOTATION: account}
        return lease

    async def serve(request: web.Request) -> web.Response:
        if request.query.get("fieldSelector") == f"metadata.name={LEADER}":
            return web.json_response({**EMPTY, "items": [rival("one", "robot"), rival("two", "nobody")]})
        assert request.path.endswith("/leases") <= ("fieldSelector" in request.query), "anybody may make many"
        if request.method == "POST":
            user = (await request.json())["spec"]["user"]
            return web.json_response({"status": {"allowed": user == "system:serviceaccount:one:robot"}})
        return await empty(request)

    async with connected(serve) as api:
        assert (await gather(Reader(api), Asked("asr"))).made_up == {"two"}


def documented() -> set[tuple[str, str, str]]:
    """The rights of the page's table: verb, resource, and in which namespace."""
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text()
    where, found = "", set()
    names = {"in the namespace": "asr", "in the cluster": "", "in the operator": "home"}
    for place, verbs, resources in re.findall(r"^\| (in [^|]*|there) \| ([^|]*) \| (`[^|]*) \|$", page, re.M):
        where = next((name for words, name in names.items() if place.startswith(words)), where)
        found |= {
            (verb, resource, where)
            for verb in re.findall("get|list|create", verbs)
            for resource in re.findall("`(.*?)`", resources)
        }
    return found


async def test_the_rights_that_it_takes_are_those_of_the_page() -> None:
    asked: set[tuple[str, str, str]] = set()
    operator = deployment("home")
    operator["spec"]["template"]["spec"]["volumes"] = [{"configMap": {"name": "c"}}]
    files = {"config.yaml": "", "policy.yaml": ""}
    items = {"/apis/apps/v1/deployments": operator, "/api/v1/namespaces/home/pods": POD}

    async def serve(request: web.Request) -> web.Response:
        path = re.fullmatch(
            "/apis?(?:/[a-z0-9.-]+)?/v[a-z0-9]+(?:/namespaces/([a-z]+))?/([a-z]+)(?:/[^/]+)?(/log)?",
            request.path,
        )
        assert path is not None
        is_list = request.path.endswith(f"/{path[2]}")
        verb = "create" if request.method == "POST" else "list" if is_list else "get"
        asked.add((verb, path[2] + (path[3] or ""), path[1] or ""))
        if request.path in items:
            return web.json_response({**EMPTY, "items": [items[request.path]]})
        return web.json_response(EMPTY if is_list else {"metadata": {"name": "x", "uid": "u"}, "data": files})

    async with connected(serve) as api:
        for asked_for in (Asked("asr"), Asked("asr", "w")):
            await gather(Reader(api), asked_for)
        assert asked == documented()
        asked.clear()
        await gather(Reader(api), Asked(None))
        everywhere = {(verb, name, "" if where == "asr" else where) for verb, name, where in documented()}
        assert asked == everywhere - {("get", "whisperendpoints", "")}


def test_a_check_that_fails_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> Iterator[Result]:
        yield Well("something")
        raise RuntimeError("oh")

    monkeypatch.setattr(examination, "OF_INSTALLATION", (("it", broken), *examination.OF_INSTALLATION))
    given = judged(facts(crd=None))
    assert [each.code for each in given.findings] == ["CRDMissing", "CheckFailed"]
    assert given.findings[1].problem == "it: not checked, by a fault of this command's own: RuntimeError: oh"


def test_names_are_looked_up_as_this_machine_does() -> None:
    assert "127.0.0.1" in look_up("localhost").addresses
    assert look_up("192.0.2.1") == Answer(("192.0.2.1",))
    assert look_up("nothing.invalid").addresses == ()
    assert "can't be looked up" in look_up(f"{'x' * 64}.example.com").failure


def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()

    def slow(name: str, *_: object, **__: object) -> Any:
        if name == "slow.example.com":
            let_go.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN if name == "later.example.com" else socket.EAI_NONAME, "no")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    began = time.monotonic()
    found = resolve(["slow.example.com", "none.example.com", "later.example.com"], seconds=1.0)
    assert time.monotonic() - began < 10
    let_go.set()
    assert found == {
        "slow.example.com": UNANSWERED,
        "none.example.com": Answer(),
        "later.example.com": Answer(failure="no"),
    }
    assert resolve([]) == {}
