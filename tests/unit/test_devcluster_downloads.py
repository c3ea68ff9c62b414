"""The binaries as their projects publish them, from a server here that has them under the same paths."""

import hashlib
import io
import json
import shutil
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from devcluster import DevclusterError, build, downloads
from devcluster.build import Tool
from devcluster.paths import HERE

SAYS_PUBLISHED = b"#!/bin/sh\necho published\n"
RELEASED: build.Modules = {
    "all": (
        Tool("kubectl", "k8s.io/kubernetes/cmd/kubectl", "k8s.io/kubernetes"),
        Tool("etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3"),
        Tool("kwok", "sigs.k8s.io/kwok/cmd/kwok", "sigs.k8s.io/kwok"),
    )
}
GO_MOD = """module example.com/all

go 1.26.0

require (
	go.etcd.io/etcd/server/v3 v3.7.3 // indirect
	k8s.io/kubernetes v1.37.2 // indirect
	sigs.k8s.io/kwok v0.8.0 // indirect
)
"""

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="needs a Go toolchain on the PATH")


class Mirror:
    """Files by path, and the paths that were asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cut_short: set[str] = set()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Serve one request."""
        self.asked.append(handler.path)
        content = self.files.get(handler.path)
        if content is None:
            handler.send_error(404)
            return
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:10] if handler.path in self.cut_short else content)

    def publish(self, sha256: str | None = None) -> None:
        """The binaries of RELEASED with their checksums, or that one."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            entry = tarfile.TarInfo("etcd-v3.7.3-linux-amd64/etcd")
            entry.size = len(SAYS_PUBLISHED)
            archive.addfile(entry, io.BytesIO(SAYS_PUBLISHED))
        etcd = "/etcd-io/etcd/releases/download/v3.7.3"
        kwok = "/kubernetes-sigs/kwok/releases/download/v0.8.0/kwok-linux-amd64"
        kubectl = "/release/v1.37.2/bin/linux/amd64/kubectl"
        tarball = f"{etcd}/etcd-v3.7.3-linux-amd64.tar.gz"
        self.files |= {kubectl: SAYS_PUBLISHED, tarball: packed.getvalue(), kwok: SAYS_PUBLISHED}
        sums = {path: sha256 or hashlib.sha256(content).hexdigest() for path, content in self.files.items()}
        assets = [
            {"name": "kwok-linux-arm64", "digest": f"sha256:{'0' * 64}"},
            {"name": "kwok-linux-amd64", "digest": f"sha256:{sums[kwok]}"},
            {"name": "of old", "digest": None},
        ]
        listed = (
            f"{'0' * 64}  etcd-v3.7.3-darwin-amd64.zip\n{sums[tarball]}  etcd-v3.7.3-linux-amd64.tar.gz\n"
        )
        self.files |= {
            f"{kubectl}.sha256": sums[kubectl].encode(),
            f"{etcd}/SHA256SUMS": listed.encode(),
            "/repos/kubernetes-sigs/kwok/releases/tags/v0.8.0": json.dumps({"assets": assets}).encode(),
        }


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A mirror to be filled, whose address is in the environment; this machine is said to be the usual one."""
    serving = Mirror()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            serving.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("WHISPER_BINARIES_URL", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        yield serving
        server.shutdown()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the modules, and an empty cache."""
    monkeypatch.setenv("WHISPER_DEVCLUSTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WHISPER_BINARIES", raising=False)
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "go.mod").write_text(GO_MOD)
    hello = tmp_path / "hello"
    hello.mkdir()
    (hello / "go.mod").write_text(
        "module example.com/hello\n\ngo 1.26.0\n\nrequire example.com/greeting v1.2.3\n\n"
        "replace example.com/greeting => ./greeting\n"
    )
    (hello / "greeting").mkdir()
    (hello / "greeting" / "go.mod").write_text("module example.com/greeting\n\ngo 1.26.0\n")
    (hello / "greeting" / "main.go").write_text(
        'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("compiled") }\n'
    )
    return tmp_path


@pytest.fixture
def greeting(monkeypatch: pytest.MonkeyPatch) -> build.Modules:
    """A module of a few lines that publishes binaries as well."""
    release = downloads.Release(
        "https://example.com/{version}/{name}", "https://example.com/{version}/{name}.sha256"
    )
    monkeypatch.setitem(downloads.RELEASES, "example.com/greeting", release)
    return {"hello": (Tool("greeting", "example.com/greeting", "example.com/greeting"),)}


def says(binary: Path) -> str:
    """What it prints."""
    return subprocess.run([binary], capture_output=True, text=True, check=True).stdout.strip()


def test_what_is_published_is_not_compiled(
    root: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror.publish()
    monkeypatch.setattr("devcluster.golang.find", lambda _: pytest.fail("a Go toolchain was asked for"))
    folder = build.ensure(root, RELEASED)
    assert {path.name: says(path) for path in folder.iterdir()} == dict.fromkeys(
        ("etcd", "kubectl", "kwok"), "published"
    )
    assert "[3/3] kwok  downloaded in" in capsys.readouterr().err
    asked = len(mirror.asked)
    assert build.ensure(root, RELEASED) == folder
    assert len(mirror.asked) == asked


def test_the_wrong_file_is_told_and_never_kept(
    root: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.publish(sha256="f" * 64)
    monkeypatch.setenv("WHISPER_BINARIES", "download")
    with pytest.raises(
        DevclusterError, match=rf"has SHA-256 [0-9a-f]{{64}}, and not {'f' * 64} as published"
    ):
        build.ensure(root, RELEASED)
    assert not [
        path for path in (root / "cache").rglob("*") if path.name.lstrip(".").startswith(("etcd", "k"))
    ]


@needs_go
@pytest.mark.parametrize(
    ("published", "complaint"),
    [
        ({"/v1.2.3/greeting": SAYS_PUBLISHED, "/v1.2.3/greeting.sha256": b"0" * 64}, "as published"),
        ({"/v1.2.3/greeting.sha256": b"0" * 64}, "Not Found"),
        ({"/v1.2.3/greeting": SAYS_PUBLISHED}, "Not Found"),
        (
            {"/v1.2.3/greeting": SAYS_PUBLISHED, "/v1.2.3/greeting.sha256": b"<html>"},
            "no checksum of greeting",
        ),
    ],
    ids=["wrong checksum", "no file", "no checksum", "another page"],
)
def test_what_cannot_be_had_as_published_is_compiled(
    root: Path, mirror: Mirror, greeting: build.Modules, published: dict[str, bytes], complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    mirror.files |= published
    assert says(build.ensure(root, greeting) / "greeting") == "compiled"
    told = capsys.readouterr().err
    assert "devcluster: compiling greeting, which can't be downloaded: " in told
    assert complaint in told


@needs_go
def test_a_download_that_breaks_off_is_compiled(
    root: Path, mirror: Mirror, greeting: build.Modules, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror.files = {
        "/v1.2.3/greeting": SAYS_PUBLISHED,
        "/v1.2.3/greeting.sha256": hashlib.sha256(SAYS_PUBLISHED).hexdigest().encode(),
    }
    mirror.cut_short.add("/v1.2.3/greeting")
    assert says(build.ensure(root, greeting) / "greeting") == "compiled"
    assert "can't be downloaded" in capsys.readouterr().err


@needs_go
def test_nobody_is_asked_where_all_is_to_be_compiled(
    root: Path, mirror: Mirror, greeting: build.Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHISPER_BINARIES", "compile")
    assert says(build.ensure(root, greeting) / "greeting") == "compiled"
    assert mirror.asked == []


@needs_go
def test_a_host_that_never_answers_costs_seconds(
    root: Path, greeting: build.Modules, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("WHISPER_BINARIES_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        found, missing = downloads.find({"greeting": ("example.com/greeting", "v1.2.3")})
        assert time.monotonic() - start < 4 * downloads.PATIENCE
        assert found == {}
        assert list(missing) == ["greeting"]
        monkeypatch.setattr(downloads, "PATIENCE", 0.2)
        assert says(build.ensure(root, greeting) / "greeting") == "compiled"
    assert len(capsys.readouterr().err.splitlines()) <= 4, (
        "one line says why, the others are the compiler's progress"
    )


def test_another_wish_is_refused(
    root: Path, greeting: build.Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHISPER_BINARIES", "yes")
    with pytest.raises(DevclusterError, match="WHISPER_BINARIES=yes: say auto, download or compile"):
        build.ensure(root, greeting)


def test_a_machine_without_releases_asks_nobody(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    found, missing = downloads.find({"kubectl": ("k8s.io/kubernetes", "v1.37.2")})
    assert (found, missing) == ({}, {"kubectl": "there is none for this machine"})
    assert mirror.asked == []


def test_every_binary_of_the_cluster_is_published_by_its_project() -> None:
    for folder, tools in build.MODULES.items():
        go_mod = (HERE / folder / "go.mod").read_text()
        for tool in tools:
            assert tool.module in downloads.RELEASES
            assert build.pinned(tool.module, go_mod).startswith("v")
