"""What is shown and what alarms works on what the operator and the server really tell: each query of each panel, each alert."""

import json
import re
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle
from threading import Event
from typing import Any

import pytest
import yaml

from deploy.monitoring.__main__ import COMPONENTS, RULES
from devcluster import Cluster
from devcluster.installation import Operator, install
from devcluster.waiting import eventually
from tests.ship.observing import RECORDINGS, ROOT, Prometheus, Sample, prometheus, status, whisper_server

pytestmark = pytest.mark.timeout(3600)  # Prometheus is built first

RIGHTLY_EMPTY = {
    "Requests that failed",  # none did
    "Left to other installations",  # there is no other
    "Memory of the device",  # a CPU has none of its own
}
ALARMED = {"WhisperEndpointUnavailable", "WhisperEndpointStalled"}
"""By the endpoint whose accelerator nobody knows."""
AS_IT_HAPPENS = "WhisperServerSlow"
"""Whether this machine's CPU is faster than real time is no fault of anybody's."""

EXPRESSIONS: dict[str, str] = {
    rule["alert"]: rule["expr"]
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
}
PANELS: dict[str, dict[str, Any]] = {
    panel["title"]: panel
    for path in sorted((COMPONENTS / "dashboards").glob("*.json"))
    for panel in json.loads(path.read_text())["panels"]
    if panel["type"] != "row"
}
CHOICES = {"$__rate_interval": "1m", "$namespace": "asr", "$endpoint": "speech", "$price": "0.35"}
GOOD, BAD = 3, 1


@dataclass(frozen=True)
class Scene:
    """All that runs, after some work."""

    prometheus: Prometheus
    operator: Operator
    operations: int
    """The server's port for them."""

    def told(self) -> set[str]:
        """The metrics that the operator and the server tell of, but for the times since when they count."""
        texts = (self.operator.ask("/metrics")[1], metrics(self.operations))
        names = {name for text in texts for name in re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE)}
        return {name for name in names if not name.endswith("_created")}


def metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


def endpoint(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "whisper-operator.io/v1alpha1",
        "kind": "WhisperEndpoint",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


@pytest.fixture(scope="module")
def scene(cluster: Cluster) -> Iterator[Scene]:
    """Two replicas, one of which leads, that look after endpoints of which one is bad; a server that has answered requests."""
    install(cluster)
    with ExitStack() as stack:
        first = stack.enter_context(Operator(cluster)).wait_until_working()
        second = stack.enter_context(Operator(cluster, name="second"))
        port, ops = stack.enter_context(whisper_server(cluster.folder))
        targets = {
            first.health_port: {"namespace": "whisper-operator", "pod": "one"},
            second.health_port: {"namespace": "whisper-operator", "pod": "two"},
            ops: {"namespace": "asr", "pod": "speech-1", "whisper_endpoint": "speech"},
        }
        found = stack.enter_context(prometheus(cluster.folder, targets, RULES))
        eventually(
            lambda: (
                len(found.query("whisper_operator_leader")) == 2 and len(found.query("whisper_ready")) == 1
            ),
            timeout=120,
            what="everything is scraped",
        )
        cluster.apply(
            *(endpoint(f"good-{number}", device="cpu") for number in range(GOOD)),
            endpoint("bad", accelerator={"type": "abacus"}),
        )
        counted = 'max(whisper_operator_endpoints{readiness="%s"})'
        for readiness, number in (("ready", GOOD), ("stalled", BAD)):
            eventually(
                lambda query=counted % readiness, number=number: (  # type: ignore[misc]
                    [each.value for each in found.query(query)] == [number]
                ),
                timeout=120,
                what=f"{number} are {readiness}",
            )
        stack.enter_context(busy(cluster, port))
        yield Scene(found, first, ops)


@contextmanager
def busy(cluster: Cluster, port: int) -> Iterator[None]:
    """Meanwhile there are requests, good ones and bad ones, and the operator has something to write: of what does not change,
    a rate is 0, and a share or a quantile is no number."""
    over = Event()
    url = f"http://127.0.0.1:{port}"
    found: list[set[str]] = []
    rollouts = cycle(("Recreate", "RollingUpdate"))  # which restarts nothing

    def work() -> None:
        with ThreadPoolExecutor(3) as pool:
            while not over.wait(1.0):
                wanted = [RECORDINGS / name for name in ("hello.wav", "fox.flac", "hello.wav")]
                found.append(set(pool.map(lambda file: status(f"{url}/whisper", file), wanted)))
                found.append({status(f"{url}/whisper", ROOT / "README.md"), status(f"{url}/nowhere")})
                patch = f'{{"spec": {{"rollout": "{next(rollouts)}"}}}}'
                cluster.kubectl("patch", "wep", "good-0", "-n", "default", "--type=merge", "-p", patch)

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        try:
            yield
        finally:
            over.set()
            working.result()
    assert {frozenset(each) for each in found} <= {frozenset({"200"}), frozenset({"400", "404"})}


def filled_in(query: str) -> str:
    """As Grafana sends it."""
    for variable, value in CHOICES.items():
        query = query.replace(variable, value)
    assert "$" not in query, query
    return query


def shown(scene: Scene, query: str) -> list[Sample]:
    """What a panel's query has to say, as soon as it has: a rate takes two samples."""
    query = filled_in(query)
    return eventually(lambda: scene.prometheus.numbers(query), timeout=60, what=query)


@pytest.mark.parametrize("title", PANELS)
def test_a_panel_shows_something(scene: Scene, title: str) -> None:
    for target in PANELS[title]["targets"]:
        if title in RIGHTLY_EMPTY:
            assert scene.prometheus.query(filled_in(target["expr"])) == []
            continue
        found = shown(scene, target["expr"])
        for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
            assert all(label in each.labels for each in found) or label == "client", (
                f"{label} in {target['expr']}"
            )


def test_every_panel_has_a_title_of_its_own() -> None:
    titles = [
        panel["title"]
        for path in (COMPONENTS / "dashboards").glob("*.json")
        for panel in json.loads(path.read_text())["panels"]
        if panel["type"] != "row"
    ]
    assert sorted(titles) == sorted(PANELS)
    assert PANELS.keys() >= RIGHTLY_EMPTY


@pytest.mark.parametrize("alert", EXPRESSIONS)
def test_an_alert_can_be_evaluated_and_is_quiet_where_nothing_is_wrong(scene: Scene, alert: str) -> None:
    found = scene.prometheus.query(EXPRESSIONS[alert])
    if alert != AS_IT_HAPPENS:

        def is_as_it_should() -> bool:
            return bool(scene.prometheus.query(EXPRESSIONS[alert])) == (alert in ALARMED)

        eventually(is_as_it_should, what=f"not {found}")  # what changes meanwhile may be amiss for a moment


def test_prometheus_itself_evaluates_every_rule(scene: Scene) -> None:
    def evaluated() -> list[dict[str, Any]] | None:
        groups = scene.prometheus.ask("rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return rules if all(rule["health"] != "unknown" for rule in rules) else None

    rules = eventually(evaluated, timeout=120, what="each rule was evaluated")
    assert {rule["name"] for rule in rules} == EXPRESSIONS.keys()
    assert [rule for rule in rules if rule["health"] != "ok"] == []


def test_the_page_has_each_metric_and_no_other(scene: Scene) -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text()
    documented = set(re.findall(r"^\| `([a-z_]+)`", text, re.MULTILINE))
    told = {name for name in scene.told() if not name.startswith("process_")}
    assert told == documented - {"whisper_engine_memory_bytes"}  # which a CPU does not tell of


def value(scene: Scene, title: str, number: int = 0, **labels: str) -> float:
    """What a panel shows there."""
    found = shown(scene, PANELS[title]["targets"][number]["expr"])
    (sample,) = [each for each in found if labels.items() <= each.labels.items()]
    return sample.value


def test_two_replicas_do_not_double_what_is_counted(scene: Scene) -> None:
    eventually(lambda: value(scene, "Endpoints", readiness="ready") == GOOD, what="all are counted once")
    assert value(scene, "Endpoints", readiness="stalled") == BAD
    assert value(scene, "Not Ready, by reason", reason="UnknownAccelerator") == BAD
    both = 'sum(whisper_operator_endpoints{readiness="stalled"})'
    eventually(
        lambda: scene.prometheus.query(both)[0].value == 2 * BAD,
        timeout=60,
        what="the other tells of them, too",
    )
    assert value(scene, "Endpoints", readiness="stalled") == BAD


def test_the_figures_of_the_engine_make_sense(scene: Scene) -> None:
    assert 1 <= value(scene, "Rows a step") <= 16
    assert scene.prometheus.query("sum by (pod) (whisper_engine_windows)")[0].value == 16
    assert value(scene, "Real-time factor") > 0
    # A second ago there may have been less.
    seconds = scene.prometheus.query("whisper_audio_seconds_total")[0].value
    assert value(scene, "Hours of audio in the last hour") * 3600 == pytest.approx(seconds, rel=0.5)
    assert value(scene, "An hour of audio, by the device's work alone") == pytest.approx(
        0.35 / value(scene, "Real-time factor"), rel=0.5
    )
    assert value(scene, "An hour of audio, as paid for") > 0
