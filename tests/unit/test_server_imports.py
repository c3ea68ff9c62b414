"""The server's folders import one another in one direction, and only some of them know Flask or torch."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "server" / "whisper_server"
FOLDERS = ("http", "scheduling", "transcribe", "audio", "engine")
"""Each may import those that come after it, and the modules that lie beside the folders."""
COMMAND = "__main__"
"""The one module beside them that brings all together."""


def imports(path: Path) -> set[str]:
    """All modules that a file names in its import statements, wherever these stand."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def folder_of(module: str) -> str:
    """The folder that a module of ours is in; empty for one beside the folders, and for others' modules."""
    parts = module.split(".")
    return parts[1] if parts[0] == "whisper_server" and len(parts) > 1 and parts[1] in FOLDERS else ""


def test_the_folders_are_all_there_are() -> None:
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_point_one_way(folder: str) -> None:
    allowed = {"", *FOLDERS[FOLDERS.index(folder) :]}
    for path in (PACKAGE / folder).rglob("*.py"):
        wrong = {module for module in imports(path) if folder_of(module) not in allowed}
        assert not wrong, f"{path.relative_to(PACKAGE)} imports {', '.join(sorted(wrong))}"


def test_modules_beside_the_folders_import_none_of_them() -> None:
    for path in PACKAGE.glob("*.py"):
        if path.stem != COMMAND:
            assert not {module for module in imports(path) if folder_of(module)}, path.name


USED_BY = {
    "flask": {"http"},
    "werkzeug": {"http"},
    "gunicorn": {"http"},
    "torch": {"engine", "audio"},
    "ctranslate2": {"engine"},
    "onnxruntime": {"audio"},
}


@pytest.mark.parametrize("library", USED_BY)
def test_a_library_is_known_where_it_is_used(library: str) -> None:
    using = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if any(module.split(".")[0] == library for module in imports(path))
    }
    assert using == USED_BY[library]
