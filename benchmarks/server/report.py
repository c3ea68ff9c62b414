"""The figures as files: everything as JSON, a table as CSV, a plot as SVG, and the tables of README.md.

To write the latter three again from the JSON:

    .venv-server/bin/python -m benchmarks.server.report
"""

import csv
import json
import re
import statistics
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

READ_AT = 16
"""Clients of the load that the tables tell more of."""
COLUMNS = ("speed", "p50", "p95", "word_error_rate")


def write(result: dict[str, Any], folder: Path) -> None:
    """Write server-throughput.json, .csv and .svg into `folder`, and the tables into its README.md if it has one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server-throughput.json").write_text(json.dumps(result, indent=1) + "\n")
    rows = table(result)
    with (folder / "server-throughput.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    _plot(rows, result["shape"], folder / "server-throughput.svg")
    page = folder / "README.md"
    if page.exists():
        tables = f"<!-- server -->\n{markdown(result)}<!-- end -->"
        page.write_text(re.sub("<!-- server -->.*?<!-- end -->", tables, page.read_text(), flags=re.DOTALL))


def table(result: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each server and load: medians of the rounds, and the speed as a multiple of the two peers'."""
    cells: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for each in result["short"]:
        cells.setdefault((each["server"], each["clients"]), []).append(each)
    rows = []
    for (server, clients), found in cells.items():
        row: dict[str, Any] = {"server": server, "clients": clients}
        row |= {name: round(statistics.median(each[name] for each in found), 4) for name in COLUMNS}
        for peer in ("how-to app", "faster-whisper app int8"):
            there = cells.get((peer, clients))
            # Round by round: what slowed the machine down slowed both.
            ratios = [
                mine["speed"] / theirs["speed"] for mine, theirs in zip(found, there or [], strict=False)
            ]
            row[f"times {peer}"] = round(statistics.median(ratios), 3) if ratios else None
        rows.append(row)
    return rows


def markdown(result: dict[str, Any]) -> str:
    """The tables for readers: speeds by load, and more at the load of `READ_AT` clients; then the long file."""
    rows = table(result)
    loads = sorted({row["clients"] for row in rows})
    at = READ_AT if READ_AT in loads else loads[-1]
    head = [
        "server",
        *(f"{load} client{'s' if load > 1 else ''}" for load in loads),
        f"p50 / p95 at {at}, s",
        f"word errors at {at}",
        f"times the how-to's at {at}",
        "peak memory",
    ]
    lines = [head, ["---"] * len(head)]
    for server, memory in result["peak_memory_bytes"].items():
        mine = {row["clients"]: row for row in rows if row["server"] == server}
        times = mine[at]["times how-to app"]
        lines.append(
            [
                server,
                *(f"{mine[load]['speed']:.2f}" for load in loads),
                f"{mine[at]['p50']:.1f} / {mine[at]['p95']:.1f}",
                f"{mine[at]['word_error_rate']:.2%}",
                "" if times is None else f"{times:.2f}",
                f"{memory / 2**20:.0f} MiB",
            ]
        )
    text = _lines(lines)
    if result["long"]:
        lines = [["the long file, int8", "seconds of audio a second", "word errors"], ["---"] * 3]
        for each in result["long"]:
            name = f"{each['server']}, {each['way']}"
            lines.append([name, f"{each['speed']:.2f}", f"{each['word_error_rate']:.2%}"])
        text += "\n" + _lines(lines)
    return text


def _lines(cells: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def _plot(rows: list[dict[str, Any]], shape: str, path: Path) -> None:
    plt.rcParams["svg.hashsalt"] = "whisper"
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5))
    for server in dict.fromkeys(row["server"] for row in rows):
        mine = sorted((row for row in rows if row["server"] == server), key=lambda row: row["clients"])
        style = "-o" if server.startswith("ours") else "--s"
        for axis, column in zip(axes, ("speed", "p95"), strict=True):
            axis.plot([row["clients"] for row in mine], [row[column] for row in mine], style, label=server)
    for axis, title in zip(axes, ("seconds of audio a second", "95th percentile of latency, s"), strict=True):
        axis.set_title(title)
        axis.set_xlabel("clients")
        axis.set_xscale("log", base=2)
        axis.set_ylim(bottom=0)
        axis.xaxis.set_major_formatter("{x:.0f}")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    figure.suptitle(f"{shape} shape, clips of 4 to 12 s")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    here = Path("docs/benchmarks")
    write(json.loads((here / "server-throughput.json").read_text()), here)
