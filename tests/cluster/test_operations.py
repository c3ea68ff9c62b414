"""What those who run the operator see of it: probes, metrics, logs."""

import time
from typing import Any

import pytest
from whisper_operator import __version__

from devcluster import Cluster, DevclusterError
from devcluster.faults import FaultProxy
from devcluster.installation import Operator
from tests.cluster.support import endpoint, exists, live, stopped, until, wait_for_condition


def test_metrics_probes_and_logs_tell_what_the_operator_does(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    assert operator.ask("/healthz") == (200, "ok\n")
    assert operator.ask("/readyz") == (200, "ok\n")
    count = "whisper_operator_endpoints"
    before = {name: operator.metric(count, readiness=name) for name in ("ready", "suspended", "stalled")}
    applied = operator.metric("whisper_operator_writes_total", verb="apply", kind="Service")
    installed.apply(
        endpoint("good", namespace),
        endpoint("asleep", namespace, suspend=True),
        endpoint("bad", namespace, accelerator={"type": "abacus"}),
    )
    wait_for_condition(installed, namespace, "good")
    wait_for_condition(installed, namespace, "asleep", reason="Suspended")
    wait_for_condition(installed, namespace, "bad", status="False", reason="UnknownAccelerator")

    def counted() -> bool:
        return all(operator.metric(count, readiness=name) == number + 1 for name, number in before.items())

    until(counted, "one more endpoint of each")
    amiss = {"endpoint_namespace": namespace, "reason": "UnknownAccelerator"}
    for kind in ("Ready", "Stalled"):
        assert (
            operator.metric("whisper_operator_endpoint_amiss", endpoint_name="bad", condition=kind, **amiss)
            == 1
        )
    assert f'endpoint_name="good",endpoint_namespace="{namespace}"' not in operator.ask("/metrics")[1]
    assert operator.metric("whisper_operator_build_info", version=__version__) == 1
    assert operator.metric("whisper_operator_writes_total", verb="apply", kind="Service") == applied + 2
    assert operator.metric("whisper_operator_reconciles_total", result="done") >= 3
    assert operator.metric("whisper_operator_workqueue_work_duration_seconds_count") >= 3
    assert operator.metric("whisper_operator_request_errors_total", reason="refused") == 0

    def idle() -> bool:
        names = ("depth", "active", "failing")
        return not any(operator.metric(f"whisper_operator_workqueue_{name}") for name in names)

    until(idle, "an empty queue")


def test_two_operators_on_one_cluster_are_refused_and_share_no_settings(
    installed: Cluster, operator: Operator
) -> None:
    other = Operator(installed, {"workers": 0})
    with pytest.raises(DevclusterError, match="an operator runs on this cluster already"):
        other.start()
    with stopped(operator), other:
        until(lambda: other.exit_status() is not None, "it ends")
        assert "workers must be at least 1" in str(other.log())
    assert operator.ask("/healthz") == (200, "ok\n")


@pytest.mark.usefixtures("alone")
def test_every_line_about_an_endpoint_names_it(installed: Cluster, namespace: str) -> None:
    """Those of requests that go wrong, too."""
    with FaultProxy(installed) as proxy, Operator(installed, server=proxy.url) as operator:
        operator.wait_until_working()
        proxy.keep_failing(f"/namespaces/{namespace}/", "500")
        installed.apply(endpoint("whisper", namespace))

        def tries() -> list[dict[str, Any]]:
            return [line for line in operator.log() if "Trying again" in str(line["message"])]

        def is_told() -> bool:
            return any(
                (line.get("namespace"), line.get("name")) == (namespace, "whisper") for line in tries()
            )

        until(is_told, "a try that names the endpoint")
        proxy.behave()
        wait_for_condition(installed, namespace, "whisper")
        lines = tries()
        assert all("namespace" in line and "name" in line for line in lines)
        assert all(line["level"] != "RAW" for line in operator.log()), "a line that is no JSON"
        assert operator.metric("whisper_operator_request_errors_total", reason="unavailable") >= 1
        assert operator.metric("whisper_operator_reconciles_total", result="retry") >= 1


@pytest.mark.usefixtures("alone")
def test_a_watch_that_reports_nothing_any_more_is_found_out(installed: Cluster, namespace: str) -> None:
    """The regular list still brings the change to be carried out; only the probe fails, so that Kubernetes restarts it."""
    with (
        FaultProxy(installed) as proxy,
        Operator(installed, {"listAgainSeconds": 3}, server=proxy.url) as operator,
    ):
        operator.wait_until_working()
        installed.apply(endpoint("before", namespace))
        wait_for_condition(installed, namespace, "before")
        assert operator.ask("/healthz")[0] == 200
        proxy.stall_watches()
        installed.apply(endpoint("after", namespace))
        until(lambda: operator.ask("/healthz")[0] == 500, "the dead watch is found out")
        assert "reports nothing any more" in operator.ask("/healthz")[1]
        assert operator.metric("whisper_operator_dead_watches") >= 1
        until(lambda: live(installed, namespace, "after").get("status"), "a status nevertheless")


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("alone")
def test_watches_that_fail_are_tried_again_and_end_nothing(installed: Cluster, namespace: str) -> None:
    """Whatever the API server answers."""
    with FaultProxy(installed) as proxy, Operator(installed, server=proxy.url) as operator:
        operator.wait_until_working()
        with proxy.blind():
            proxy.fail(*("500", "nonsense", "429", "cut", "503", "nonsense") * 8, agent="kopf")
        installed.apply(endpoint("whisper", namespace, device="cpu"))
        wait_for_condition(installed, namespace, "whisper")
        until(lambda: len(proxy.done) == 48, "all of that was met")
        installed.kubectl("delete", "service", "whisper", "-n", namespace)
        until(lambda: exists(installed, namespace, "service", "whisper"), "the Service back")
        assert operator.exit_status() is None
        assert operator.complaints() == []


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("alone")
def test_an_api_server_that_is_away_costs_one_line_a_try(installed: Cluster, namespace: str) -> None:
    with FaultProxy(installed) as proxy:
        operator = Operator(installed, server=proxy.url)
    try:  # the proxy is gone, so nothing answers
        operator.start()
        until(lambda: len(operator.log()) >= 3, "some tries")
        lines = [str(line["message"]) for line in operator.log()]
        assert all("The API server can't be asked; trying again in" in line for line in lines), lines
    finally:
        operator.stop()


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("alone")
def test_the_operator_ends_when_told_to_while_its_watches_begin_anew(installed: Cluster) -> None:
    """kopf then hangs more often than not; `stop` waits as long as Kubernetes does."""
    with FaultProxy(installed) as proxy:
        for _ in range(4):
            with Operator(installed, server=proxy.url) as operator:
                operator.wait_until_working()
                with proxy.blind():
                    time.sleep(0.3)
                assert operator.stop() in (0, 1)
