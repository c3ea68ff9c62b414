"""Each alert fires where it should, with words that name what is wrong, and stays quiet where only little is different.

promtool evaluates the very file that is installed.
"""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.monitoring.__main__ import RULES
from tests.ship.programs import program

ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
}

LEADER = 'namespace="whisper-operator", pod="one", instance="one:8080"'
OTHER = 'namespace="whisper-operator", pod="two", instance="two:8080"'
LEADS = {f"whisper_operator_leader{{{LEADER}}}": "1x200", f"whisper_operator_leader{{{OTHER}}}": "0x200"}
"""Of two replicas, one."""
SERVER = 'namespace="asr", whisper_endpoint="speech", pod="speech-1", instance="speech-1:9090"'

ENDPOINT = {"endpoint_namespace": "asr", "endpoint_name": "speech"}
INSTALLATION = {"namespace": "whisper-operator"}
SERVED = {"namespace": "asr", "whisper_endpoint": "speech"}

Series = dict[str, str]
"""Samples a minute apart, in promtool's notation, by series."""


def amiss(condition: str, reason: str, values: str = "1x200", whose: str = LEADER) -> Series:
    labels = f'endpoint_namespace="asr", endpoint_name="speech", condition="{condition}", reason="{reason}"'
    return {f"whisper_operator_endpoint_amiss{{{labels}, {whose}}}": values}


def of(name: str, values: str, labels: str = "", whose: str = LEADER) -> Series:
    return {f"whisper_operator_{name}{{{labels + ', ' if labels else ''}{whose}}}": values}


def requests(**by_status: int) -> Series:
    """So many a minute of each status."""
    return {
        f'whisper_requests_total{{status="{status[1:]}", endpoint="/whisper", {SERVER}}}': f"0+{number}x200"
        for status, number in by_status.items()
    }


def server(name: str, values: str) -> Series:
    return {f"whisper_{name}{{{SERVER}}}": values}


def started(whose: str, values: str) -> Series:
    return {f"process_start_time_seconds{{{whose}}}": values}


@dataclass(frozen=True)
class Case:
    """What makes an alert fire, and what is nearly that."""

    series: Series
    summary: str
    """As it is told."""
    quiet: Series
    labels: dict[str, str] = field(default_factory=dict)
    """Of the alert, beside its severity."""
    minutes: int = 90
    """After which it fires, and the other does not."""


CASES = {
    "WhisperOperatorDown": Case(
        {}, "No replica of whisper-operator can be scraped.", of("leader", "0x200"), minutes=11
    ),
    "WhisperOperatorNoLeader": Case(
        of("leader", "0x200") | of("leader", "0x200", whose=OTHER),
        "No replica of whisper-operator in namespace whisper-operator leads.",
        # It has nothing to lead.
        of("leader", "0x200") | of("left_to_others", "1x200", 'installation="older"'),
        INSTALLATION,
        minutes=6,
    ),
    "WhisperOperatorRestarting": Case(
        LEADS | started(LEADER, "0+5x200"),
        "Pod one of whisper-operator starts again and again.",
        LEADS | started(LEADER, "7x200") | started('instance="another:80"', "0+5x200"),
        INSTALLATION | {"pod": "one"},
    ),
    "WhisperOperatorWatchDead": Case(
        of("dead_watches", "0x5 1x200"),
        "A watch of whisper-operator's pod one reports nothing any more.",
        of("dead_watches", "0x86 1x2 0x100"),  # until the kubelet restarts it
        INSTALLATION | {"pod": "one"},
    ),
    "WhisperOperatorQueueGrowing": Case(
        LEADS | of("workqueue_depth", "0+2x200"),
        "whisper-operator does not keep up, 34 endpoints or more wait all the time.",
        # The other replica's queue is nobody's work, and a full one that empties is none to speak of.
        LEADS
        | of("workqueue_depth", "0 900x8 0 900x8 0 900x200")
        | of("workqueue_depth", "99x200", whose=OTHER),
        INSTALLATION,
        minutes=26,
    ),
    "WhisperOperatorErrors": Case(
        of("reconciles_total", "0+1x200", 'result="error"'),
        "whisper-operator fails by a fault of its own.",
        of("reconciles_total", "0+9x200", 'result="retry"')
        | of("reconciles_total", "3x200", 'result="error"'),
        INSTALLATION,
    ),
    "WhisperOperatorWritesFailing": Case(
        LEADS | of("workqueue_failing", "2x200"),
        "whisper-operator tries 2 endpoints again and again, without success.",
        LEADS | of("workqueue_failing", "2x70 0 2x15 0"),
        INSTALLATION,
    ),
    "WhisperOperatorCannotRead": Case(
        of("unreadable", "1x200", 'kind="services", reason="forbidden", exported_namespace="asr"'),
        "whisper-operator can't list services (forbidden).",
        of("unreadable", "1x200", 'kind="podmonitors.monitoring.coreos.com", reason="missing"'),
        {"kind": "services", "reason": "forbidden"},
    ),
    "WhisperOperatorPolicyInvalid": Case(
        of("policy_valid", "1x200") | of("policy_valid", "0x200", whose=OTHER),
        "The policy of whisper-operator in namespace whisper-operator can't be used.",
        of("policy_valid", "1x200") | of("policy_valid", "1x200", whose=OTHER),
        INSTALLATION,
    ),
    "WhisperOperatorUpgradeFailed": Case(
        LEADS | of("upgrades", "1x200", 'state="failed"'),
        "An endpoint fails in its upgrade, and stops all others.",
        LEADS | of("upgrades", "1x200", 'state="rolling"') | of("upgrades", "1x200", 'state="failed"', OTHER),
        INSTALLATION,
    ),
    "WhisperOperatorUpgradesWaiting": Case(
        LEADS | of("upgrades", "7x200", 'state="waiting"') | of("upgrades", "0x200", 'state="rolling"'),
        "7 endpoints wait for an upgrade, and none is on its way.",
        LEADS | of("upgrades", "7x200", 'state="waiting"') | of("upgrades", "1x200", 'state="rolling"'),
        INSTALLATION,
    ),
    "WhisperOperatorOrphans": Case(
        LEADS | of("orphans", "3x200") | of("orphans", "3x200", whose=OTHER),
        "3 deleted endpoints have left a Deployment or an Ingress behind.",
        LEADS | of("orphans", "0x200"),
        INSTALLATION,
    ),
    "WhisperOperatorOverlap": Case(
        of("left_to_others", "1x200", 'installation="older"'),
        "whisper-operator in namespace whisper-operator does nothing, as the installation in namespace older looks after all it "
        "would.",
        # Some namespaces are another's, on purpose.
        of("left_to_others", "1x200", 'installation="theirs", exported_namespace="radiology"'),
        INSTALLATION | {"installation": "older"},
    ),
    "WhisperEndpointUnavailable": Case(
        LEADS | amiss("Available", "Deploying", "1x30") | amiss("Available", "CrashLooping", "_x30 1x200"),
        "Endpoint speech in namespace asr serves nothing.",
        LEADS | amiss("Available", "Deploying", "1x80 _x200") | amiss("Ready", "CertificatePending"),
        ENDPOINT,
    ),
    "WhisperEndpointStalled": Case(
        LEADS | amiss("Stalled", "OutOfMemory") | amiss("Stalled", "OutOfMemory", whose=OTHER),
        "Endpoint speech in namespace asr waits for somebody to act: OutOfMemory.",
        LEADS | amiss("Ready", "OutOfMemory"),
        ENDPOINT | {"reason": "OutOfMemory"},
    ),
    "WhisperEndpointNotReady": Case(
        LEADS | amiss("Ready", "Unschedulable", "1x50") | amiss("Ready", "OutOfStock", "_x50 1x200"),
        "Endpoint speech in namespace asr does not become Ready.",
        LEADS
        | amiss("Ready", "OutOfMemory")
        | amiss("Stalled", "OutOfMemory"),  # which has an alert of its own
        ENDPOINT,
    ),
    "WhisperEndpointCertificateFailing": Case(
        LEADS | amiss("CertificateReady", "FailedNotVisible"),
        "Endpoint speech in namespace asr gets no certificate: FailedNotVisible.",
        LEADS | amiss("CertificateReady", "Provisioning"),
        ENDPOINT | {"reason": "FailedNotVisible"},
    ),
    "WhisperEndpointCertificateRenewalFailing": Case(
        LEADS | amiss("CertificateReady", "RenewalFailed"),
        "A certificate of endpoint speech in namespace asr can't be renewed.",
        LEADS | amiss("CertificateReady", "FailedNotVisible"),
        ENDPOINT,
    ),
    "WhisperServerErrors": Case(
        requests(s200=90, s503=6, s500=4),
        "10% of the requests to endpoint speech in namespace asr fail.",
        requests(s200=90, s400=6, s429=6, s503=4),
        SERVED,
    ),
    "WhisperServerRefusing": Case(
        requests(s200=80, s429=20),
        "Endpoint speech in namespace asr refuses 20% of its requests, as its queue is full.",
        requests(s200=80, s413=20, s429=4),
        SERVED,
    ),
    "WhisperServerSlow": Case(
        server("request_seconds_sum", "0+90x200") | server("audio_seconds_total", "0+60x200"),
        "Endpoint speech in namespace asr takes 1.5 s for a second of audio.",
        # Long requests for long audio are as they should be.
        server("request_seconds_sum", "0+900x200") | server("audio_seconds_total", "0+9000x200"),
        SERVED,
    ),
    "WhisperServerNotReady": Case(
        server("ready", "1x20 0x200"),
        "Pod speech-1 of endpoint speech in namespace asr runs, and takes no requests.",
        server("ready", "1x75 0x10 1x200"),
        SERVED | {"pod": "speech-1"},
    ),
    "WhisperServerRestarting": Case(
        server("ready", "1x200") | started(SERVER, "0x40 100x20 200x10 300x200"),
        "Pod speech-1 of endpoint speech in namespace asr starts again and again.",
        server("ready", "1x200") | started(SERVER, "0x10 100x200"),
        SERVED | {"pod": "speech-1"},
    ),
    "WhisperServerOutOfMemory": Case(
        server("engine_out_of_memory_total", "0x80 3x200"),
        "The GPU of endpoint speech in namespace asr runs out of memory.",
        server("engine_out_of_memory_total", "0 3x200"),
        SERVED,
    ),
    "WhisperServerMetricsMissing": Case(
        of("endpoints", "4x200", 'readiness="ready"'),
        "4 endpoints are Ready, and no server's metrics are collected.",
        of("endpoints", "4x200", 'readiness="ready"') | server("ready", "1x200"),
    ),
}


def test_each_alert_has_a_case_and_says_what_to_do() -> None:
    assert CASES.keys() == ALERTS.keys()
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), name
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}, name


def told(name: str, case: Case, minutes: int) -> dict[str, Any]:
    """The alert, and nothing but it, as promtool wants it spelled out."""
    rule = ALERTS[name]
    annotations = dict(rule["annotations"])
    for label, value in case.labels.items():
        annotations = {
            key: text.replace(f"{{{{ $labels.{label} }}}}", value) for key, text in annotations.items()
        }
    annotations["summary"] = case.summary
    alert = {"exp_labels": rule["labels"] | case.labels, "exp_annotations": annotations}
    return {"alertname": name, "eval_time": f"{minutes}m", "exp_alerts": [alert]}


def unit_test(name: str, series: Series, alert: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "alert_rule_test": [alert],
    }


@pytest.fixture(scope="module")
def promtool() -> Path:
    return program("promtool")


def run(promtool: Path, folder: Path, tests: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    file = folder / "tests.yaml"
    file.write_text(
        yaml.safe_dump(
            {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}, sort_keys=False
        )
    )
    return subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)


@pytest.mark.timeout(3600)  # promtool is built first
@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_when_it_should_and_only_then(promtool: Path, name: str, tmp_path: Path) -> None:
    case = CASES[name]
    quiet = {"alertname": name, "eval_time": f"{case.minutes}m", "exp_alerts": []}
    done = run(
        promtool,
        tmp_path,
        [
            unit_test("fires", case.series, told(name, case, case.minutes)),
            unit_test("stays quiet", case.quiet, quiet),
        ],
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_well_formed(promtool: Path) -> None:
    done = subprocess.run(
        [promtool, "check", "rules", "--lint=all", "--lint-fatal", RULES],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_would_say_no(promtool: Path, tmp_path: Path) -> None:
    """Else the tests above were worth nothing."""
    name = "WhisperServerSlow"
    quiet = {"alertname": name, "eval_time": "90m", "exp_alerts": []}
    done = run(promtool, tmp_path, [unit_test("fires", CASES[name].series, quiet)])
    assert done.returncode != 0
    assert "takes 1.5 s for a second of audio" in done.stdout + done.stderr
