"""/ui: a page to try the server with. Static, without anything from elsewhere."""

from importlib import resources
from pathlib import PurePosixPath

from flask import Blueprint, Response
from werkzeug.exceptions import NotFound

_KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def blueprint() -> Blueprint:
    """The page and its parts."""
    routes = Blueprint("ui", __name__)
    folder = resources.files("whisper_server.http") / "page"
    contents = {part.name: part.read_bytes() for part in folder.iterdir()}

    def answer(name: str) -> Response:
        return Response(contents[name], mimetype=_KINDS[PurePosixPath(name).suffix], headers=HEADERS)

    @routes.get("/ui")
    def page() -> Response:
        """The page itself."""
        return answer("index.html")

    @routes.get("/ui/<name>")
    def part(name: str) -> Response:
        """Its script and style."""
        if name not in contents:
            raise NotFound("the page has no such part; it is at /ui")
        return answer(name)

    return routes
