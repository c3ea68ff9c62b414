"""The proxy that goes wrong on demand goes wrong as API servers do, and not otherwise."""

import json
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from devcluster import Cluster
from devcluster.faults import FaultProxy

OBJECT = json.dumps({"type": "ADDED", "object": {"pad": "x" * 1_000_000}}).encode() + b"\n"
"""More than comes in one piece."""


@pytest.fixture
def halting() -> Iterator[str]:
    """The address of a server whose watches have told of one object, and half of the next."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(OBJECT + OBJECT[:500_000])
            over.wait(60)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        over.set()
        server.shutdown()


def test_a_watch_ends_between_two_objects(
    cluster: Cluster, halting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultProxy(cluster) as proxy:
        monkeypatch.setattr(proxy, "_server", halting)
        with urllib.request.urlopen(f"{proxy.url}/api/v1/services?watch=true", timeout=60) as watch:
            assert watch.readline() == OBJECT
            with proxy.blind():
                pass
            (last,) = watch.readlines()
    assert json.loads(last)["object"]["code"] == 410
