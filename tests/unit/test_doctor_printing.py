"""What doctor prints, and its exit statuses."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from whisper_operator.__main__ import main
from whisper_operator.doctor import printing
from whisper_operator.doctor.examination import Report
from whisper_operator.doctor.finding import ERROR, UNCHECKED, WARNING, Finding, Subject, Well

from tests.unit.test_command_line import KUBECONFIG, use

THING = Subject("Thing", "t", "asr")
REPORT = Report(
    (
        Finding(ERROR, "Broken", THING, "It is broken.", "Mend it:", "kubectl mend t"),
        Finding(WARNING, "Odd", THING, "It is odd. " * 30),
        Finding(
            UNCHECKED,
            "NotPermitted",
            Subject("Nodes"),
            "GPU nodes: not checked: needs the right to list nodes",
        ),
    ),
    (Well("This is well"), Well("And this")),
)


def printed(report: Report, *, verbose: bool = False) -> str:
    output = io.StringIO()
    printing.text(report, output, verbose=verbose)
    return output.getvalue()


def test_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = printed(REPORT)
    lines = text.splitlines()
    assert lines[:4] == [
        "ERROR  Thing asr/t: Broken",
        "  It is broken.",
        "  Mend it:",
        "    kubectl mend t",
    ]
    assert "NOT CHECKED  GPU nodes: not checked: needs the right to list nodes" in lines
    assert lines[-2:] == [
        "Nothing is wrong with 2 things that were looked at: -v says what.",
        "1 error, 1 warning, 1 not checked.",
    ]
    assert max(map(len, lines)) <= 80
    assert "WELL  This is well\nWELL  And this\n" in printed(REPORT, verbose=True)
    assert printed(Report((), (Well("x"),))).splitlines() == [
        "Nothing is wrong with 1 thing that was looked at: -v says what.",
        "All is well.",
    ]


def test_a_command_is_never_broken_into_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    long = "kubectl " + "x " * 100
    report = Report((Finding(ERROR, "Broken", THING, "It is.", "Do:", long.strip()),), ())
    assert f"    {long.strip()}\n" in printed(report)


def test_json() -> None:
    output = io.StringIO()
    printing.as_json(REPORT, output)
    report = json.loads(output.getvalue())
    assert report["findings"][0] == {
        "severity": "error",
        "code": "Broken",
        "subject": {"kind": "Thing", "namespace": "asr", "name": "t"},
        "problem": "It is broken.",
        "advice": "Mend it:",
        "command": "kubectl mend t",
    }
    assert [each["severity"] for each in report["findings"]] == ["error", "warning", "not-checked"]
    assert report["well"] == ["This is well", "And this"]


EVIL = "a\x1b[2Jb\x07c\u202ed\r\ne\u2028f\x9bg\u200bh\ud800"


def test_what_a_cluster_says_is_shown_and_not_obeyed() -> None:
    evil = Finding(ERROR, f"X{EVIL}", Subject("Host", EVIL, "asr"), EVIL, EVIL, EVIL)
    report = Report((evil,), (Well(EVIL),))
    output = io.StringIO()
    printing.as_json(report, output)
    for text in (printed(report, verbose=True), output.getvalue(), str(json.loads(output.getvalue()))):
        assert [each for each in text.replace("\n", "") if not each.isprintable()] == []
    assert "a�[2Jb�c�d e f�g�h�" in printed(report)
    huge = Finding(ERROR, "X", THING, "x" * 100_000)
    assert len(printed(Report((huge,), ()))) < 3000


def test_a_terminal_that_lacks_a_letter_stops_nothing() -> None:
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    printing.text(Report((Finding(ERROR, "X", THING, "é"),), ()), output, verbose=False)
    output.seek(0)
    assert "\\xe9" in output.read()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--context", "nowhere"], "it has no context nowhere"),
        (["--context", "nowhere", "-n", "asr"], "context"),
        (
            ["whisper", "-A"],
            "an endpoint is in one namespace: give NAME with -n NAMESPACE, or -A without a NAME",
        ),
        (["-A"], "can't reach the API server http://127.0.0.1:1: GET /version: "),
    ],
)
def test_without_a_cluster_it_says_so_in_one_line(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(tmp_path / "kubeconfig", KUBECONFIG, monkeypatch)
    assert main(["doctor", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("whisper-operator: ")
    assert words in captured.err
    assert captured.err.count("\n") == 1


def test_a_kubeconfig_may_be_named_and_need_not_have_a_current_context(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(tmp_path / "other", "a: [", monkeypatch)
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG.replace("current-context: here\n", ""))
    named = ["--kubeconfig", str(path)]
    assert main(["doctor", *named, "--context", "here"]) == 2
    assert "can't reach the API server http://127.0.0.1:1" in capsys.readouterr().err
    assert main(["doctor", *named]) == 2
    assert f"cannot use the kubeconfig {path}: " in capsys.readouterr().err
    assert main(["doctor", "--kubeconfig", str(tmp_path / "gone")]) == 2
    assert f"there is no {tmp_path / 'gone'}" in capsys.readouterr().err


def test_wrong_usage_is_2_and_help_tells_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["-n", "asr", "-A"], ["-o", "yaml"], ["a", "b"]):
        with pytest.raises(SystemExit) as raised:
            main(["doctor", *arguments])
        assert raised.value.code == 2
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert (
        "Exit status: 0 no errors, though there may be warnings and things not checked; 1 errors were found; 2"
        in words
    )
    assert "writes nothing, and reads no Secret" in words


def test_whoever_stops_reading_sees_no_traceback(tmp_path: Path) -> None:
    code = (
        "import sys, asyncio\n"
        "from whisper_operator.doctor import command\n"
        "from whisper_operator.doctor.examination import Report\n"
        "from whisper_operator.doctor.finding import ERROR, Finding, Subject\n"
        "from argparse import Namespace\n"
        "async def report(*_): return Report((Finding(ERROR, 'X', Subject('T'), 'x' * 1999),) * 999, ())\n"
        "command._examine = report\n"
        "options = Namespace(name=None, all_namespaces=True, output='text', verbose=False)\n"
        "sys.exit(command.run(options))\n"
    )
    path = tmp_path / "code.py"
    path.write_text(code)
    shell = f"'{sys.executable}' '{path}' | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.stdout == "ERROR  T: X\n1\n"
