"""The bills of materials: exactly what the images' packages need, the same bytes each time."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def sbom(
    *arguments: str, root: Path = ROOT, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run scripts/sbom of the checkout `root`."""
    clean = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    return subprocess.run(
        [str(root / "scripts" / "sbom"), *arguments],
        env=clean | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What it printed."""
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = json.loads(done.stdout)
    return read


@pytest.mark.parametrize(
    ("image", "inside", "outside"),
    [
        ("operator", {"kopf", "kubernetes", "PyYAML"}, {"pytest", "mypy", "setuptools", "pip", "torch"}),
        # The libraries of CUDA are named by an extra of torch's requirement only.
        (
            "server",
            {"torch", "nvidia-cudnn-cu13", "gunicorn"},
            {"pytest", "selenium", "openai", "pip", "scipy"},
        ),
    ],
)
def test_it_names_what_the_image_needs(image: str, inside: set[str], outside: set[str]) -> None:
    first = sbom(image, environment={"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo"})
    bill = document(first)
    assert sbom(image, environment={"PYTHONHASHSEED": "2"}).stdout == first.stdout
    assert "serialNumber" not in bill
    assert "timestamp" not in bill["metadata"]
    assert str(ROOT) not in first.stdout
    names = {each["name"] for each in bill["components"]}
    assert inside <= names
    assert not outside & names
    main = bill["metadata"]["component"]
    code = (ROOT / image / f"whisper_{image}" / "__init__.py").read_text()
    assert main["name"] == f"whisper-{image}"
    assert f'__version__ = "{main["version"]}"' in code
    references = {each["bom-ref"] for each in bill["components"]} | {main["bom-ref"]}
    assert {each["ref"] for each in bill["dependencies"]} == references
    assert all(set(each["dependsOn"]) <= references for each in bill["dependencies"])


def test_the_time_is_the_one_that_is_given() -> None:
    bill = document(sbom("operator", environment={"SOURCE_DATE_EPOCH": "86400"}))
    assert bill["metadata"]["timestamp"].startswith("1970-01-02T00:00:00")


def test_a_package_that_nobody_pinned_is_refused(tmp_path: Path) -> None:
    for name in (".venv", ".venv-release", "operator"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "sbom", tmp_path / "scripts")
    pins = (ROOT / "constraints.txt").read_text()
    (tmp_path / "constraints.txt").write_text(re.sub(r"^kopf==.+", "kopf==0.0.1", pins, flags=re.M))
    done = sbom("operator", root=tmp_path)
    assert done.returncode == 1
    assert re.search(
        r"\.venv has kopf \S+, which constraints\.txt does not: pin the version there", done.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "complaint"),
    [
        (["sever"], {}, "sbom: say which image: operator or server"),
        (
            ["operator"],
            {"SOURCE_DATE_EPOCH": "now"},
            "SOURCE_DATE_EPOCH=now is no number of seconds since 1970",
        ),
    ],
)
def test_it_refuses(arguments: list[str], environment: dict[str, str], complaint: str) -> None:
    done = sbom(*arguments, environment=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert complaint in done.stderr


def test_without_the_environment_it_says_how_to_make_it(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "sbom", tmp_path / "scripts")
    done = sbom("server", root=tmp_path)
    assert done.returncode == 1
    assert ".venv-server is missing: run scripts/environment server" in done.stderr
