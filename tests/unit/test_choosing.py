"""docs/guides/choosing.md: its figures are those of the benchmarks, and its arithmetic is right."""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "guides" / "choosing.md").read_text()
GPU = (DOCS / "benchmarks" / "gpu.md").read_text()
CPU = (DOCS / "benchmarks" / "README.md").read_text()

WINDOW_SECONDS = 28.75
"""Of a full window, as the benchmarks have them."""


def rows(heading: str) -> list[list[str]]:
    """Cells of the table under a heading."""
    lines = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0].splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return table[2:]


def test_measured_figures_are_those_of_the_benchmarks() -> None:
    table = rows("How fast")
    assert len(table) >= 8
    for machine, _, _, kind, speed, _ in table:
        if kind == "measured":
            assert re.search(rf"\b{re.escape(speed)}\b", GPU if machine == "H200" else CPU), speed
    assert "| ours openai-whisper bfloat16 | 10.42 | 15.45 | 16.54 | 17.12 |" in CPU


def test_limits_are_those_of_the_page_about_gpus() -> None:
    limits = {
        cells[0].strip(): float(cells[-1])
        for line in GPU.split("## What limits it")[1].splitlines()
        if (cells := line.strip("| ").split("|")) and re.fullmatch(r" *[0-9.]+", cells[-1])
    }
    for machine, _, load, kind, speed, _ in rows("How fast"):
        if kind == "limit":
            assert f"{limits[machine]:.0f} a second" in load
            assert float(speed) == round(limits[machine] * WINDOW_SECONDS)


def test_the_arithmetic_is_right() -> None:
    for *_, speed, hours in rows("How fast"):
        assert hours == f"{1000 / float(speed):.2f}"
    for speed, *costs in rows("Cost of an hour of audio"):
        assert costs == [f"{1 / (float(speed) * share):.4f}" for share in (1, 1 / 3, 1 / 20)]
