"""What was found, as tables to read and to paste into the documentation."""

from collections.abc import Iterator, Sequence
from typing import Any

Found = dict[str, Any]


def table(result: Found) -> str:
    """All sections, short."""
    lines = [" ".join(f"{name}={value}" for name, value in result["machine"].items()), ""]
    for name, section in result["sections"].items():
        kind, shape = name.split()
        lines.append(f"{kind}, {shape}: {section['seconds']} s{', FAILED' if section['problem'] else ''}")
        lines += {"equality": _equality, "memory": _memory, "speed": _speed, "service": _service}[kind](
            section["found"]
        )
        lines.append("")
    return "\n".join([*lines, f"in all: {result['seconds']} s"])


def _equality(found: Found) -> Iterator[str]:
    for name, value in found.items():
        differing = f", not {value['differing']}" if value["differing"] else ""
        lost = f", LOST {value['lost']}" if value["lost"] else ""
        yield f"  {name:<20} {value['equal']} of {value['files']} files as openai-whisper's{differing}{lost}"


def _memory(found: Found) -> Iterator[str]:
    for name, value in found.items():
        rest = ", ".join(f"{key} {part}" for key, part in value.items() if key not in ("engine",))
        yield f"  {name:<30} {rest}"


def _speed(found: Found) -> Iterator[str]:
    limits = found.get("limits", {})
    if card := found.get("card"):
        yield f"  copies {card['bytes_a_second'] / 1e12:.2f} TB/s, products {card['flops_a_second'] / 1e12:.0f} TFLOP/s"
    counts = sorted({int(name.split()[2]) for name in found if name.startswith("step, ")})
    if counts:
        yield _row("ms of a step, by rows", counts)
        for kind in ("eager", "graph"):
            yield _row(kind, [found.get(f"step, {kind}, {rows} rows", {}).get("ms", "-") for rows in counts])
        yield _row("limit by bytes", [limits.get(f"step, {rows} rows", "-") for rows in counts])
    for name, value in found.items():
        if name.startswith("encoder"):
            least = limits.get("encoder, a window", "-")
            yield f"  {name}: {value['ms']} ms, {value['ms_a_window']} a window (limit by FLOPs {least})"
        elif name.startswith("ready"):
            yield f"  {name}: {value['seconds']} s, {value['windows']} windows at once"
        elif "times_real_time" in value:
            windows = f", {value['windows_a_second']} windows/s" if "windows_a_second" in value else ""
            lost = f", LOST {value['lost']}" if value.get("lost") else ""
            yield f"  {name}: {value['times_real_time']} x real time{windows}{lost}"


def _row(name: str, cells: Sequence[object]) -> str:
    return f"  | {name} | {' | '.join(map(str, cells))} |"


def _service(found: Found) -> Iterator[str]:
    for name, value in found.items():
        if "files" not in value:
            yield f"  {name}: {value['seconds']} s"
            continue
        lost = f", LOST {value['lost']}" if value["lost"] else ""
        yield (
            f"  {name}: {value['times_real_time']} x real time, {value['files_a_second']} files/s, "
            f"p50 {value['p50']} s, p95 {value['p95']} s{lost}"
        )
