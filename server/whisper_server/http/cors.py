"""Cross-origin calls from browsers: allowed for the configured origins, by default for all."""

from flask import Flask, Response, request


def install(app: Flask, origins: tuple[str, ...]) -> None:
    """Add the CORS headers to every answer of `app`, errors and preflights included."""

    @app.after_request
    def allow(response: Response) -> Response:
        headers = response.headers
        if "*" in origins:
            headers["Access-Control-Allow-Origin"] = "*"
        else:
            headers.add("Vary", "Origin")
            if request.origin not in origins:
                return response
            headers["Access-Control-Allow-Origin"] = request.origin
        headers["Access-Control-Expose-Headers"] = "Retry-After, X-Audio-Seconds, X-Request-Id"
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            headers["Access-Control-Allow-Methods"] = headers.get("Allow", "GET, POST, OPTIONS")
            wanted = request.headers.get("Access-Control-Request-Headers")
            if wanted:
                headers["Access-Control-Allow-Headers"] = wanted
            headers["Access-Control-Max-Age"] = "600"
        return response
