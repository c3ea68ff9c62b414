"""docs/architecture.md and its drawings: what the code is now."""

import re

import pytest

from scripts import architecture


@pytest.mark.parametrize("name", architecture.DRAWINGS)
def test_a_drawing_is_up_to_date(name: str) -> None:
    kept = (architecture.DOCS / name).read_text()
    again = "draw it anew: PYTHONPATH=operator:server:. .venv/bin/python -m scripts.architecture"
    assert kept == architecture.drawn(name), again


def test_a_longer_way_stands_for_a_shorter_one() -> None:
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": set[str](), "d": {"a", "c"}}
    assert architecture.reduced(graph) == {"a": {"b"}, "b": {"c"}, "c": set(), "d": {"a"}}
    assert architecture.layers(graph) == [["d"], ["a"], ["b"], ["c"]]


def test_the_page_speaks_of_folders_that_there_are() -> None:
    page = (architecture.DOCS / "architecture.md").read_text()
    named = set(re.findall(r"\*\*([a-z]+)\*\*", page))
    folders = {*architecture.folders_of_the_operator(), *architecture.folders_of_the_server()}
    assert named - folders == {"operator", "server"}
    assert set(architecture.folders_of_the_server()) <= named
