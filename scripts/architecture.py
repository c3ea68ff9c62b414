"""docs/architecture-*.svg: the folders of the operator and of the server, and which imports which, drawn from the code.

    PYTHONPATH=operator:server:. .venv/bin/python -m scripts.architecture

writes them. A test fails where one is not up to date.
"""

from collections.abc import Mapping
from html import escape
from pathlib import Path

from tests.unit import test_imports as operator
from tests.unit import test_server_imports as server

DOCS = Path(__file__).resolve().parents[1] / "docs"

WIDTH, HEIGHT, GAP, DROP, MARGIN = 118, 34, 18, 46, 12
"""Of boxes, and between them; pixels."""

Graph = Mapping[str, set[str]]


def folders_of_the_operator() -> dict[str, set[str]]:
    """What each folder, or module beside the folders, imports. Of two that have modules of each other's, the one that comes first
    in the order of imports is the lower one."""
    first: dict[str, int] = {}
    for rank, rooms in enumerate(operator.ORDER):
        for room in rooms:
            first.setdefault(room.split(".")[0], rank)
    graph: dict[str, set[str]] = {}
    for module, path in operator.modules().items():
        folder = module.split(".")[0]
        below = {name.split(".")[0] for name in operator.ours(path)} - {"__init__"}
        if folder != "__init__":
            graph.setdefault(folder, set()).update(each for each in below if first[each] < first[folder])
    return graph


def folders_of_the_server() -> dict[str, set[str]]:
    """What each folder imports."""
    return {
        folder: {
            found
            for path in (server.PACKAGE / folder).rglob("*.py")
            for module in server.imports(path)
            if (found := server.folder_of(module)) and found != folder
        }
        for folder in server.FOLDERS
    }


def drawing(graph: Graph, title: str) -> str:
    """The graph as SVG: whoever imports stands above what it imports; an arrow that a longer way implies is left out."""
    rows = layers(graph)
    widest = max(len(row) for row in rows)
    width = widest * (WIDTH + GAP) - GAP + 2 * MARGIN
    height = len(rows) * (HEIGHT + DROP) - DROP + 2 * MARGIN
    place = {}
    for depth, row in enumerate(rows):
        step = width / len(row)
        for index, name in enumerate(row):
            place[name] = (step * (index + 0.5), MARGIN + depth * (HEIGHT + DROP))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
        f"<title>{escape(title)}</title>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#7986cb"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for name, below in reduced(graph).items():
        x, y = place[name]
        for other in sorted(below):
            to_x, to_y = place[other]
            parts.append(
                f'<line x1="{x:.0f}" y1="{y + HEIGHT}" x2="{to_x:.0f}" y2="{to_y - 2}" stroke="#7986cb" marker-end="url(#head)"/>'
            )
    for name, (x, y) in place.items():
        parts.append(
            f'<rect x="{x - WIDTH / 2:.0f}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="#e8eaf6" stroke="#3f51b5"/>'
            f'<text x="{x:.0f}" y="{y + 22}" text-anchor="middle" font-family="sans-serif" font-size="14" fill="#1a237e">'
            f"{escape(name)}</text>"
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def layers(graph: Graph) -> list[list[str]]:
    """Names by how far they are above what imports nothing, the highest first; each row in the order of those it is drawn to."""
    height: dict[str, int] = {}

    def above(name: str) -> int:
        if name not in height:
            height[name] = 1 + max((above(each) for each in graph[name]), default=-1)
        return height[name]

    for name in graph:
        above(name)
    rows = [
        sorted(each for each in graph if height[each] == level) for level in range(max(height.values()) + 1)
    ]
    where: dict[str, float] = {}
    for row in rows:
        row.sort(key=lambda name: (sum(where[each] for each in graph[name]) / (len(graph[name]) or 1), name))
        where.update({name: (index + 0.5) / len(row) for index, name in enumerate(row)})
    return rows[::-1]


def reduced(graph: Graph) -> dict[str, set[str]]:
    """Without what is imported by something else that is imported."""

    def all_below(name: str) -> set[str]:
        return set().union(graph[name], *(all_below(each) for each in graph[name]))

    return {name: below - set().union(*(all_below(each) for each in below)) for name, below in graph.items()}


DRAWINGS = {
    "architecture-operator.svg": (folders_of_the_operator, "The operator's folders"),
    "architecture-server.svg": (folders_of_the_server, "The server's folders"),
}


def drawn(name: str) -> str:
    """One of the drawings, as the code is now."""
    graph, title = DRAWINGS[name]
    return drawing(graph(), title)


def main() -> None:
    """Write every drawing."""
    for name in DRAWINGS:
        (DOCS / name).write_text(drawn(name))


if __name__ == "__main__":
    main()
