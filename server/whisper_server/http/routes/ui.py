"""/ui: a page to try the server with. Static, without anything from elsewhere."""

from importlib import resources

from flask import Blueprint, Response
from werkzeug.exceptions import NotFound

_KINDS = {
    "index.html": "text/html",
    "app.js": "text/javascript",
    "subtitles.js": "text/javascript",
    "style.css": "text/css",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def blueprint() -> Blueprint:
    """The page and its parts."""
    routes = Blueprint("ui", __name__)
    folder = resources.files("whisper_server.http") / "page"
    contents = {name: folder.joinpath(name).read_bytes() for name in _KINDS}

    def answer(name: str) -> Response:
        return Response(contents[name], mimetype=_KINDS[name], headers=_HEADERS)

    @routes.get("/ui")
    def page() -> Response:
        """The page itself."""
        return answer("index.html")

    @routes.get("/ui/<name>")
    def part(name: str) -> Response:
        """Its script and style."""
        if name not in _KINDS:
            raise NotFound("the page has no such part; it is at /ui")
        return answer(name)

    return routes
