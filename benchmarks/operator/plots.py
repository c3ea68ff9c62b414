"""Draws the figures of scale.py."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot  # after the choice of a backend without a display


def draw(results: dict[str, Any], folder: Path) -> None:
    runs = results["runs"]
    numbers = [run["endpoints"] for run in runs]
    places = range(len(runs))
    figure, ((rate, seconds), (latency, memory)) = pyplot.subplots(
        2, 2, figsize=(10, 7), layout="constrained"
    )
    labels = [f"{number:,} endpoints" for number in numbers]

    for shift, title, values in (
        (-0.27, "bare loop", [run["loop"]["objects_per_second"] for run in runs]),
        (0, "bare loop beside endpoints", [run["loop"]["beside_endpoints"] for run in runs]),
        (0.27, "operator", [run["create"]["objects_per_second"] for run in runs]),
    ):
        rate.bar_label(rate.bar([each + shift for each in places], values, 0.27, label=title), fmt="%.0f")
    rate.set(title="children made per second", xticks=list(places), xticklabels=labels)
    rate.legend()

    for phase in ("create", "restart", "change", "delete"):
        seconds.plot(numbers, [run[phase]["seconds"] for run in runs], "o-", label=phase)
    seconds.set(title="seconds for all endpoints", xlabel="endpoints", xscale="log", yscale="log")
    seconds.legend()

    for run, label in zip(runs, labels, strict=True):
        for phase, style in (("one_by_one_idle", "-"), ("one_by_one_under_load", "--")):
            each = run[phase]["each_ms"]
            shares = [(index + 1) / len(each) for index in range(len(each))]
            name = f"{label}, {phase.removeprefix('one_by_one_').replace('_', ' ')}"
            (line,) = latency.plot(each, shares, style, label=name)
            bare = run[phase]["bare"]["each_ms"]
            latency.plot(bare, shares[: len(bare)], ":", color=line.get_color(), label=f"{name}, bare client")
    latency.set(title="apply to last child, ms", ylabel="share of endpoints", xscale="log")
    latency.legend(fontsize=6)

    memory.bar_label(
        memory.bar(list(places), [run["settle"]["peak_rss_mib"] for run in runs], 0.5), fmt="%.0f"
    )
    memory.axhline(150, color="grey", linestyle=":")
    memory.set(title="peak resident memory of the operator, MiB", xticks=list(places), xticklabels=labels)

    figure.savefig(folder / "operator.svg")
    pyplot.close(figure)
