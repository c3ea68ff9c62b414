"""The binaries are built once, wholly, and never twice at a time. Tried with a module of a few lines and the real Go."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from devcluster import DevclusterError, build, golang
from devcluster.paths import HERE
from devcluster.progress import duration

MODULES = {"greeting": (build.Tool("hello", "example.com/greeting/hello", "example.com/greeting"),)}

pytestmark = pytest.mark.skipif(shutil.which("go") is None, reason="needs a Go toolchain on the PATH")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Go's own packages are compiled for the first test only."""
    return tmp_path_factory.mktemp("gocache")


@pytest.fixture
def root(tmp_path: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one module that says hello, and an empty cache."""
    monkeypatch.setenv("GOCACHE", str(compiled))
    monkeypatch.setenv("WHISPER_DEVCLUSTER_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "greeting" / "hello"
    folder.mkdir(parents=True)
    (folder.parent / "go.mod").write_text("module example.com/greeting\n\ngo 1.26.0\n")
    (folder / "main.go").write_text('package main\n\nfunc main() { println("hello") }\n')
    return tmp_path


def test_builds_once_until_a_pin_changes(root: Path) -> None:
    folder = build.ensure(root, MODULES)
    assert subprocess.run([folder / "hello"], capture_output=True, check=True).stderr == b"hello\n"
    assert [path.name for path in folder.iterdir()] == ["hello"]
    built = (folder / "hello").stat().st_mtime_ns
    assert build.ensure(root, MODULES) == folder
    assert (folder / "hello").stat().st_mtime_ns == built
    (root / "greeting" / "go.sum").write_text("\n")
    assert build.ensure(root, MODULES) != folder


def test_two_at_once_take_turns(root: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from devcluster import build;"
        f"tools = (build.Tool('hello', 'example.com/greeting/hello', 'x'),);"
        f"print(build.ensure(Path({str(root)!r}), {{'greeting': tools}}))"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=HERE.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    answers = [each.communicate() for each in both]
    assert [each.returncode for each in both] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    assert sum(said.count("hello  built in") for _, said in answers) == 1


def test_a_build_that_was_killed_is_taken_up(root: Path) -> None:
    final = root / "cache" / f"bin-{build.key(root, MODULES)}"
    partial = final.with_suffix(".partial")
    partial.mkdir(parents=True)
    (partial / ".hello.12345").write_text("half a binary")
    build.ensure(root, MODULES)
    assert subprocess.run([final / "hello"], capture_output=True, check=True).stderr == b"hello\n"
    assert [path.name for path in final.iterdir()] == ["hello"], "nothing half-made is left"


def test_says_what_the_compiler_says(root: Path) -> None:
    (root / "greeting" / "hello" / "main.go").write_text("package main\n\nfunc main() { missing() }\n")
    with pytest.raises(DevclusterError, match="undefined: missing"):
        build.ensure(root, MODULES)


def test_go_leaves_nothing_at_home_and_its_caches_go(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, caches = root / "home", golang.caches()
    for name in ("GOCACHE", "GOMODCACHE", "GOPATH", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    build.ensure(root, MODULES)
    assert caches.is_relative_to(root / "cache")
    assert list((caches / "gocache").iterdir()), "kept for what else is built in this checkout"
    (root / "greeting" / "go.sum").write_text("\n")
    monkeypatch.setattr(build, "HERE", root)
    build.ensure(root, MODULES)
    assert not caches.exists(), "the control plane's build needs them no more"
    left = {str(each.relative_to(home)) for each in home.rglob("*") if each.is_file()}
    assert {each for each in left if not each.startswith(".config/go/telemetry/")} == set()


def test_the_modules_may_be_removed() -> None:
    assert "-modcacherw" in golang.environment()["GOFLAGS"]


def test_the_pinned_versions_are_found() -> None:
    kubernetes = (HERE / "kubernetes" / "go.mod").read_text()
    assert build.pinned("k8s.io/kubernetes", kubernetes).startswith("v1.")
    with pytest.raises(DevclusterError, match=r"names no version of example\.com/none"):
        build.pinned("example.com/none", kubernetes)


def test_a_go_that_is_too_old_or_broken_is_passed_over(tmp_path: Path) -> None:
    go = tmp_path / "go"
    assert golang.version(go) is None
    go.write_text("#!/bin/sh\necho go version go1.9.7 linux/amd64\n")
    go.chmod(0o755)
    assert golang.version(go) == (1, 9, 7)
    assert golang.version(go) < golang.parse("1.26.0")  # type: ignore[operator]
    go.write_text("#!/bin/sh\nexit 1\n")
    assert golang.version(go) is None


def test_outside_a_virtual_environment_it_says_what_to_install(tmp_path: Path) -> None:
    program = "from devcluster import golang; golang.find((1, 26, 0))"
    base = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    packages = os.pathsep.join([str(HERE.parent), *(path for path in sys.path if "site-packages" in path)])
    environment = {"PATH": str(tmp_path), "PYTHONPATH": packages, "HOME": str(tmp_path)}
    done = subprocess.run([base, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert "Install it from https://go.dev/dl" in done.stderr


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (75.2, "1 min 15 s")])
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert duration(seconds) == text
