"""`kubectl whisper`: what it makes of an endpoint, a transcript and a server's answers."""

import importlib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from whisper_operator.plugin import tree, verdict
from whisper_operator.plugin.attempts import PATIENCE, until_done
from whisper_operator.plugin.endpoint import Endpoint
from whisper_operator.plugin.failure import Failure
from whisper_operator.plugin.form import Form
from whisper_operator.plugin.formats import rendered
from whisper_operator.plugin.progress import line
from whisper_operator.plugin.request import Busy, Lost, Told, events
from whisper_operator.plugin.sources import find

ROOT = Path(__file__).resolve().parents[2]


def test_both_commands_are_installed() -> None:
    scripts = tomllib.loads((ROOT / "operator" / "pyproject.toml").read_text())["project"]["scripts"]
    assert sorted(scripts) == ["kubectl-whisper", "whisper-operator"]
    for target in scripts.values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


TRANSCRIPT: dict[str, Any] = {
    "task": "transcribe",
    "text": "Größe --> a",
    "segments": [
        {"start": 0.5, "end": 61.25, "text": " Größe --> a"},
        {"start": 61.25, "end": 62, "text": "  "},
        {"start": 3600.9996, "end": 3602, "text": "b"},
    ],
    "usage": {"type": "duration", "seconds": 3602},
}


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("text", "Größe --> a\n"),
        ("json", '{"text": "Größe --> a", "usage": {"type": "duration", "seconds": 3602}}\n'),
        (
            "srt",
            "1\n00:00:00,500 --> 00:01:01,250\nGröße -> a\n\n2\n01:00:01,000 --> 01:00:02,000\nb\n\n",
        ),
        (
            "vtt",
            "WEBVTT\n\n00:00.500 --> 01:01.250\nGröße -> a\n\n01:00:01.000 --> 01:00:02.000\nb\n\n",
        ),
    ],
)
def test_formats(format: str, text: str) -> None:
    assert rendered(TRANSCRIPT, format) == text


def test_events() -> None:
    lines = [b": transcribing\n", b"\n", b"event: x\n", b'data: {"type": "x"}\n', b"\n", b"data: [DONE]\n"]
    assert list(events(lines)) == [{"type": "x"}]
    with pytest.raises(Lost, match="cut off"):
        list(events([b'data: {"ty']))


def test_a_form_has_the_length_that_it_says(tmp_path: Path) -> None:
    path = tmp_path / 'a "b"\n ü.wav'
    path.write_bytes(bytes(200_000))
    (source,) = find([str(path)])
    form = Form([("language", "de")], source)
    for _ in range(2):  # it may have to be sent again
        body = b"".join(form.chunks())
        assert len(body) == form.length
        assert 'filename="a %22b%22%0A ü.wav"'.encode() in body
        assert bytes(200_000) in body


def test_a_file_that_shrinks_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(bytes(20))
    (source,) = find([str(path)])
    path.write_bytes(bytes(10))
    with pytest.raises(Failure, match="has become shorter while it was sent"):
        list(Form([], source).chunks())


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.said: list[str] = []

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def run(self, outcomes: Iterator[Any]) -> Any:
        def once() -> Any:
            outcome = next(outcomes)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        return until_done(once, self.said.append, self.wait, lambda: self.now)


def test_a_busy_server_is_tried_when_it_says() -> None:
    clock = Clock()
    assert clock.run(iter([Busy("full", 7), Busy("full", 0), Lost("gone"), {"text": "a"}])) == {"text": "a"}
    assert clock.now == 7 + 1 + 1
    assert clock.said == [
        "full; trying again in 7 s",
        "full; trying again in 1 s",
        "the connection was lost (gone); trying again",
    ]


def test_patience_ends() -> None:
    clock = Clock()
    with pytest.raises(Failure, match="still too busy after 10 minutes: full"):
        clock.run(iter(lambda: Busy("full", 50), None))
    assert clock.now <= PATIENCE
    with pytest.raises(Failure, match="was lost 3 times: gone"):
        clock.run(iter(lambda: Lost("gone"), None))


def test_progress() -> None:
    assert line(["a.mp3"], [Told()], [False]) == "[------------------------]   0%  connecting  a.mp3"
    assert line(["a.mp3"], [Told(0.5)], [False]) == "[#-----------------------]   5%  sent 50%  a.mp3"
    heard = Told(1.0, 200, 400)
    assert line(["\x1ba"], [heard], [False]) == "[#############-----------]  55%  3:20 of 6:40  �a"
    assert line(["a", "b"], [heard, Told()], [False, True]).endswith("78%  1 of 2 files done")


def owned(kind: str, name: str, owner: str | None = None, **fields: Any) -> dict[str, Any]:
    owners = [{"uid": owner}] if owner else []
    return {"kind": kind, "metadata": {"name": name, "uid": name, "ownerReferences": owners}} | fields


def test_tree() -> None:
    waiting = {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]}
    objects = [
        owned("Pod", "w-1-a", "w-1", status=waiting),
        owned("Deployment", "w", "endpoint", spec={"replicas": 2}, status={"readyReplicas": 1}),
        owned("ReplicaSet", "w-1", "w", spec={"replicas": 2}, status={}),
        owned(
            "Ingress", "w", "endpoint", status={"loadBalancer": {"ingress": [{"hostname": "lb.example.com"}]}}
        ),
    ]
    resource = {"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Pods"}]}}
    found = tree.lines(resource, objects)
    assert list(found.items()) == [
        ("Deployment w", "1 of 2 ready"),
        ("  ReplicaSet w-1", "0 of 2 ready"),
        ("    Pod w-1-a", "ImagePullBackOff"),
        ("Ingress w", "lb.example.com"),
        ("condition Ready", "False (Pods)"),
    ]
    assert tree.news(found, found) == {}
    assert tree.news({"a": "2"}, {"a": "1", "b": "1", "c": "gone"}) == {"a": "2", "b": "gone"}


def condition(kind: str, status: str, reason: str, message: str) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": 1}


def judged(*conditions: dict[str, Any], generation: int = 1, **status: Any) -> verdict.Verdict:
    metadata = {"name": "w", "namespace": "asr", "generation": generation}
    status["conditions"] = list(conditions)
    return verdict.of(Endpoint({"metadata": metadata, "spec": {}, "status": status}))


READY = condition("Ready", "True", "Ready", "")


def test_verdicts() -> None:
    assert judged(READY) == verdict.Verdict(True, "Ready")
    waiting = judged(condition("Ready", "True", "UpgradePending", "in its turn"))
    assert waiting == verdict.Verdict(True, "Ready (UpgradePending)", ("in its turn",))
    unseen = judged()
    assert not unseen.is_well
    assert "whisper-operator doctor w -n asr" in unseen.details[0]
    late = judged(READY, generation=2)
    assert (late.is_well, late.head) == (False, "changed, and not seen by the operator since")


def test_what_is_wrong_is_told_once_and_with_the_dns_records() -> None:
    message = "create the DNS record"
    found = judged(
        condition("Ready", "False", "DNS", message),
        condition("Stalled", "True", "FailedNotVisible", message),
        condition("CertificateReady", "False", "FailedNotVisible", message),
        condition("Available", "True", "Serving", ""),
        dns=[{"name": "a.example.com", "type": "A", "value": "198.18.0.1"}],
    )
    assert found == verdict.Verdict(
        False,
        "somebody has to act: FailedNotVisible (it serves meanwhile)",
        (message, "DNS record: a.example.com. A 198.18.0.1"),
    )
