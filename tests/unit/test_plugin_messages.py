"""What `kubectl whisper` says when it can't do what it is asked for: each message says what to do."""

import base64
from pathlib import Path
from typing import Any

import pytest
from whisper_operator.plugin.__main__ import main

from tests.unit import fake_kubectl
from tests.unit.fake_kubectl import endpoint, got, refused

GET = "get whisperendpoints.whisper-operator.io"
SECRET = "get secret whisper-keys"
MISSING = 'Error from server (NotFound): whisperendpoints.whisper-operator.io "whisper" not found\n'
FORBIDDEN = (
    'Error from server (Forbidden): {0} is forbidden: User "ann" cannot get it in the namespace "asr"\n'
)
NO_KIND = 'error: the server doesn\'t have a resource type "whisperendpoints"\n'
NO_CLUSTER = """E1128 07:35:39.515445   28398 memcache.go:265] "Unhandled Error" err="couldn't get current server API group list"
The connection to the server localhost:8080 was refused - did you specify the right host or port?
"""


@pytest.fixture
def audio(tmp_path: Path) -> str:
    path = tmp_path / "a meeting ünder way.wav"
    path.write_bytes(b"RIFF")
    return str(path)


class Told:
    def __init__(self, status: int, words: str) -> None:
        self.status, self.words = status, words


@pytest.fixture
def tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command with a kubectl of those answers; what it says, which is never on standard output."""

    def run(answers: dict[str, fake_kubectl.Answer], *arguments: str) -> Told:
        folder = tmp_path / "bin"
        folder.mkdir()
        if answers:
            fake_kubectl.install(folder, monkeypatch, answers)
        else:
            monkeypatch.setenv("PATH", str(folder))
        monkeypatch.delenv("WHISPER_API_KEY", raising=False)
        status = main(arguments)
        out, err = capsys.readouterr()
        assert out == ""
        return Told(status, err)

    return run


def test_no_kubectl(tell: Any, audio: str) -> None:
    told = tell({}, "transcribe", audio, "--endpoint", "whisper")
    assert told.status == 2
    assert (
        "there is no kubectl on the PATH: install it, https://kubernetes.io/docs/tasks/tools/" in told.words
    )


def test_no_cluster(tell: Any) -> None:
    told = tell({GET: refused(NO_CLUSTER)}, "status")
    assert told.status == 2
    assert "no answer from the cluster: The connection to the server localhost:8080 was refused" in told.words
    assert "memcache" not in told.words
    assert "`kubectl config current-context` says which cluster it asks" in told.words


def test_no_crd(tell: Any, audio: str) -> None:
    told = tell({GET: refused(NO_KIND)}, "transcribe", audio, "--endpoint", "whisper")
    assert told.status == 2
    assert "this cluster has no WhisperEndpoints: whisper-operator is not installed there" in told.words


def test_no_such_endpoint(tell: Any, audio: str) -> None:
    there = {"items": [endpoint() | {"metadata": {"name": each, "namespace": "asr"}} for each in ("b", "a")]}
    told = tell(
        {f"{GET} whisper": refused(MISSING), GET: got(there)},
        *("transcribe", audio, "--endpoint", "whisper", "-n", "asr"),
    )
    assert (told.status, told.words) == (
        2,
        "kubectl-whisper: there is no WhisperEndpoint whisper in asr; there are a, b\n",
    )


def test_no_such_endpoint_here_but_elsewhere(tell: Any, audio: str) -> None:
    told = tell(
        {
            f"{GET} whisper": refused(MISSING),
            "--all-namespaces": got({"items": [endpoint()]}),
            GET: got({"items": []}),
        },
        *("transcribe", audio, "--endpoint", "whisper"),
    )
    assert "in other namespaces there are asr/whisper (-n NAMESPACE chooses one)" in told.words


def test_endpoints_that_may_not_be_read(tell: Any) -> None:
    told = tell({GET: refused(FORBIDDEN.format("whisperendpoints"))}, "status", "-n", "asr")
    assert told.status == 2
    assert "`kubectl auth can-i get whisperendpoints.whisper-operator.io -n asr` asks for it" in told.words


def test_an_endpoint_that_does_not_serve_says_why(tell: Any, audio: str) -> None:
    down = endpoint()
    down["status"] = {
        "conditions": [
            {"type": "Available", "status": "False", "reason": "NoReplicas", "message": "no pod is ready"},
            {
                "type": "Ready",
                "status": "False",
                "reason": "ImagePull",
                "message": "the image\x1b[2J is missing",
            },
        ]
    }
    told = tell({GET: got(down)}, "transcribe", audio, "--endpoint", "whisper")
    assert told.status == 2
    assert "asr/whisper serves nothing now. NoReplicas: no pod is ready\nImagePull: the image" in told.words
    assert "`kubectl whisper status whisper -n asr` shows all of it" in told.words
    assert "\x1b" not in told.words


def test_an_endpoint_without_a_status(tell: Any, audio: str) -> None:
    told = tell({GET: got(endpoint() | {"status": {}})}, "transcribe", audio, "--endpoint", "whisper")
    assert "the operator has not seen it yet" in told.words


KEYED = endpoint(auth={"secretName": "whisper-keys"})
SEND = ("--endpoint", "whisper")


def test_a_secret_that_may_not_be_read(tell: Any, audio: str) -> None:
    told = tell({GET: got(KEYED), SECRET: refused(FORBIDDEN.format("secrets"))}, "transcribe", audio, *SEND)
    assert told.status == 2
    assert "`kubectl auth can-i get secret/whisper-keys -n asr` asks for it" in told.words
    assert "give a key by --key-file FILE or the variable WHISPER_API_KEY" in told.words


def test_a_secret_that_is_not_there(tell: Any, audio: str) -> None:
    answer = refused('Error from server (NotFound): secrets "whisper-keys" not found\n')
    told = tell({GET: got(KEYED), SECRET: answer}, "transcribe", audio, *SEND)
    assert (
        "Secret asr/whisper-keys, which spec.auth of WhisperEndpoint asr/whisper names, does not exist"
        in told.words
    )


def test_a_secret_without_the_clients_key(tell: Any, audio: str) -> None:
    answer = got({"data": {"bob": base64.b64encode(b"k1").decode(), "ann": base64.b64encode(b"k2").decode()}})
    told = tell({GET: got(KEYED), SECRET: answer}, "transcribe", audio, *SEND, "--client", "eve")
    assert told.words == "kubectl-whisper: Secret asr/whisper-keys has no key named eve; it has ann, bob\n"


def test_an_empty_secret_and_a_key_that_is_none(tell: Any, audio: str, tmp_path: Path) -> None:
    told = tell({GET: got(KEYED), SECRET: got({"data": {}})}, "transcribe", audio, *SEND)
    assert "Secret asr/whisper-keys has no keys: add one" in told.words


def test_a_key_file_that_makes_no_sense(tell: Any, audio: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("two\nlines secret")
    told = tell({GET: got(KEYED)}, "transcribe", audio, *SEND, "--key-file", str(tmp_path / "key"))
    assert told.status == 2
    assert "can't be one: it is empty, or has characters that no HTTP header takes" in told.words
    assert "secret" not in told.words.replace(str(tmp_path), "")


def test_a_key_does_not_go_to_an_unencrypted_url(tell: Any, audio: str) -> None:
    keyed: dict[str, Any] = endpoint(auth={"secretName": "whisper-keys"})
    keyed["status"]["url"] = "http://whisper.example.com"
    answer = got({"data": {"ann": base64.b64encode(b"k2").decode()}})
    told = tell({GET: got(keyed), SECRET: answer}, "transcribe", audio, *SEND, "--url")
    assert told.status == 2
    assert "http://whisper.example.com is not encrypted" in told.words
    assert "k2" not in told.words


def test_no_url(tell: Any, audio: str) -> None:
    inside: dict[str, Any] = endpoint()
    del inside["status"]["url"]
    told = tell({GET: got(inside)}, "transcribe", audio, *SEND, "--url")
    assert "has no public URL: leave --url out" in told.words


def test_a_port_that_may_not_be_forwarded(tell: Any, audio: str) -> None:
    answer = refused(
        'error: error upgrading connection: pods "whisper-1" is forbidden: User "ann" cannot create resource "pods/portforward"\n'
    )
    told = tell({GET: got(endpoint()), "port-forward": answer}, "transcribe", audio, *SEND)
    assert told.status == 1
    assert "`kubectl auth can-i create pods --subresource=portforward -n asr` asks for it" in told.words
    assert "--url" in told.words


def test_files_that_can_not_be_read_are_told_before_anything_is_asked(tell: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    names = [str(tmp_path / each) for each in ("no such.wav", "empty.wav", "")]
    told = tell({}, "transcribe", *names, *SEND)
    assert told.status == 2
    assert "no such.wav can't be read: No such file or directory" in told.words
    assert "empty.wav is empty" in told.words
    assert f"{tmp_path} is a folder: name the files in it" in told.words
    assert "kubectl on" not in told.words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--words",), "--words, the times of single words, needs --format verbose_json"),
        (("{audio}", "--format", "srt"), "several files as srt need --output FOLDER"),
        (("--output", "{folder}/x/y.txt"), "there is no folder"),
        (("{folder}/b.wav", "--output", "{audio}"), "is a file: several transcripts need a folder"),
        (("{audio}", "--output", "{folder}"), "would both be"),
        (("--output", "{audio}"), "would overwrite"),
        (("-", "-"), "standard input can be read once"),
        (("--client", "ann"), "--client chooses a key of the endpoint's Secret"),
    ],
)
def test_wrong_usage(tell: Any, audio: str, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    filled = [each.format(audio=audio, folder=tmp_path) for each in arguments]
    told = tell({GET: got(endpoint())}, "transcribe", audio, *filled, *SEND)
    assert told.status == 2
    assert words in told.words


def test_status_of_nothing(tell: Any) -> None:
    assert (
        "there is no WhisperEndpoint in asr" in tell({GET: got({"items": []})}, "status", "-n", "asr").words
    )


def test_status_of_one_in_all_namespaces(tell: Any) -> None:
    assert "give NAME with -n NAMESPACE, or -A without a NAME" in tell({}, "status", "x", "-A").words
