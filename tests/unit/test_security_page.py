"""docs/security.md: a line for every field of the contract, and a test for every line."""

import re
from collections.abc import Container
from pathlib import Path

from tests.unit.test_every_field import SPEC, leaves
from tests.unit.test_preset import HARMLESS, REFUSED

HERE = Path(__file__).parent
CLUSTER = HERE.parent / "cluster"
PAGE = (HERE.parents[1] / "docs" / "security.md").read_text()


def rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in text.splitlines()
        if line.startswith("| ") and not line.startswith("| ---") and "| test |" not in line
    ]


def section(name: str) -> str:
    """What stands under a heading, up to the next one."""
    return PAGE.split(f"# {name}\n")[1].split("\n#")[0]


ROWS = rows(PAGE)
METADATA = {"name", "labels", "annotations", "finalizers", "ownerReferences"}
"""Of an object, what those who may create it choose, beside its namespace and its spec."""


def test_every_field_has_a_line() -> None:
    lines = {row[0] for row in rows(section("With the preset, field by field"))}
    fields = {".".join(path).replace(".[]", "") for path, _, _ in leaves(SPEC)}
    assert [
        each for each in fields if not any(each == line or each.startswith(f"{line}.") for line in lines)
    ] == []
    assert [
        each for each in lines if not any(field == each or field.startswith(f"{each}.") for field in fields)
    ] == []


def test_there_are_attacks_by_metadata_deletion_and_time() -> None:
    assert {row[0] for row in rows(section("Metadata"))} == METADATA
    for name in ("Deletion", "Time", "All else"):
        assert len(rows(section(name))) >= 3, name


def test_every_line_has_a_test_that_exists() -> None:
    assert len(ROWS) > 40
    for row in ROWS:
        named = row[-1].split(", ")
        assert named, row
        for each in named:
            match = re.fullmatch(r"(test_\w+\.py)::(test_\w+)(?:\[(.+)\])?", each)
            assert match is not None, each
            text = next(path / match[1] for path in (HERE, CLUSTER) if (path / match[1]).exists()).read_text()
            assert f"def {match[2]}(" in text, each
            if match[3]:
                known: Container[str] = REFUSED if match[2] == "test_the_preset_refuses" else HARMLESS
                assert match[3] in known, each


def test_every_case_of_the_preset_is_on_the_page() -> None:
    page = " ".join(row[-1] for row in ROWS)
    missing = [each for each in REFUSED if f"test_the_preset_refuses[{each}]" not in page]
    missing += [each for each in HARMLESS if f"test_the_preset_lets_be[{each}]" not in page]
    assert missing == []
