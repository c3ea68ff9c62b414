"""Traps of the repository's own layout."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_nothing_in_operator_shadows_the_standard_library() -> None:
    """Python run from the root imports `operator` all the time: a package of that name there breaks Python itself."""
    assert (ROOT / "operator").is_dir()
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert not (ROOT / "operator.py").exists()
    assert not list((ROOT / "operator").glob("operator.py"))


def test_test_files_have_unique_names() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert len(names) == len(set(names))
    assert not list((ROOT / "tests").rglob("__init__.py"))
