"""A report as people read it, or as JSON."""

import json
import shutil
import textwrap
from typing import TextIO

from whisper_operator.doctor.examination import Report
from whisper_operator.doctor.finding import ERROR, SEVERITIES, UNCHECKED, WARNING, Finding
from whisper_operator.observed.foreign_words import printable

LONGEST = 2000
"""Characters of one text: a cluster may say more than anybody reads."""
NARROWEST, WIDEST = 60, 120
HEADS = {ERROR: "ERROR", WARNING: "WARNING", UNCHECKED: "NOT CHECKED"}
COUNTED = {
    ERROR: ("error", "errors"),
    WARNING: ("warning", "warnings"),
    UNCHECKED: ("not checked", "not checked"),
}


def text(report: Report, output: TextIO, *, verbose: bool) -> None:
    width = max(NARROWEST, min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns))
    for each in report.findings:
        for line in _lines(each, width):
            _write(output, line)
    if verbose:
        for well in report.well:
            _write(output, f"WELL  {_clean(well.words)}")
    elif report.well:
        things = f"{len(report.well)} {'things' if len(report.well) > 1 else 'thing'}"
        _write(
            output,
            f"Nothing is wrong with {things} that {'were' if len(report.well) > 1 else 'was'} looked at: -v says what.",
        )
    _write(output, _sum(report))


def as_json(report: Report, output: TextIO) -> None:
    findings = [
        {
            "severity": each.severity,
            "code": _clean(each.code),
            "subject": {
                "kind": each.subject.kind,
                "namespace": _clean(each.subject.namespace),
                "name": _clean(each.subject.name),
            },
            "problem": _clean(each.problem),
            "advice": _clean(each.advice),
            "command": _clean(each.command),
        }
        for each in report.findings
    ]
    body = {"findings": findings, "well": [_clean(each.words) for each in report.well]}
    _write(output, json.dumps(body, indent=2))


def _lines(finding: Finding, width: int) -> list[str]:
    if finding.severity == UNCHECKED:
        return [*_paragraph(f"{HEADS[UNCHECKED]}  {_clean(finding.problem)}", width, first=""), ""]
    lines = [f"{HEADS[finding.severity]}  {_clean(f'{finding.subject}: {finding.code}')}"]
    for words in (finding.problem, finding.advice):
        lines += _paragraph(_clean(words), width, first="  ")
    if finding.command:
        lines.append(f"    {_clean(finding.command)}")  # in one line, to be copied
    return [*lines, ""]


def _paragraph(words: str, width: int, *, first: str) -> list[str]:
    return textwrap.wrap(
        words,
        width,
        initial_indent=first,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _sum(report: Report) -> str:
    counts = {each: sum(one.severity == each for one in report.findings) for each in SEVERITIES}
    if not any(counts.values()):
        return "All is well."
    return ", ".join(f"{count} {COUNTED[each][count != 1]}" for each, count in counts.items() if count) + "."


def _clean(words: str) -> str:
    flat = printable(words)
    return flat if len(flat) <= LONGEST else f"{flat[: LONGEST - 3]}..."


def _write(output: TextIO, line: str) -> None:
    """As far as the terminal's encoding has it."""
    encoding = output.encoding or "utf-8"
    output.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
