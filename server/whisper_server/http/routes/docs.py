"""/docs: the document of /openapi.json for people to read, one page of HTML without a script or anything from elsewhere."""

from typing import Any

from flask import Blueprint, Response
from markupsafe import Markup, escape

from whisper_server.config import Settings
from whisper_server.http.routes import openapi, ui

_PAGE = Markup("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}: the API</title>
<link rel="stylesheet" href="ui/style.css">
</head>
<body>
<header><div><h1>The API</h1><p>{title} {version}. {description}</p></div></header>
<div class="api">
{operations}
<h2>Schemas</h2>
{schemas}
</div>
<footer>The same for programs: <a href="openapi.json">openapi.json</a>. <a href="ui">A page to try it</a></footer>
</body>
</html>
""")


def page(document: dict[str, Any]) -> Markup:
    """HTML of an OpenAPI document: its operations, then its schemas, each with an anchor of its name."""
    operations = [
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = [_schema(name, schema) for name, schema in document["components"]["schemas"].items()]
    return _PAGE.format(
        **{name: document["info"][name] for name in ("title", "version", "description")},
        operations=Markup("\n").join(operations),
        schemas=Markup("\n").join(schemas),
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> Markup:
    key = Markup("<p>Needs an API key: <code>Authorization: Bearer KEY</code>.</p>")
    body = operation.get("requestBody", {}).get("content", {})
    rows = [(Markup("body, {}").format(kind), _type(content["schema"])) for kind, content in body.items()]
    for status, response in operation["responses"].items():
        kinds = Markup(", ").join(
            Markup("{}: {}").format(kind, _type(content["schema"])) if content["schema"] else escape(kind)
            for kind, content in response["content"].items()
        )
        rows.append((escape(status), Markup("{}; {}").format(response["description"], kinds)))
    return Markup(
        '<section id="{id}"><h2><code>{method} {path}</code> {summary}</h2>{key}{rows}</section>'
    ).format(
        id=f"{method}-{path}",
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        key=key if operation.get("security") else "",
        rows=_table(rows),
    )


def _schema(name: str, schema: dict[str, Any]) -> Markup:
    required = schema.get("required", [])
    rows = [
        (
            Markup("<code>{}</code>{}").format(field, " (required)" if field in required else ""),
            Markup("{} {}").format(_type(each), each.get("description", "")),
        )
        for field, each in schema["properties"].items()
    ]
    return Markup('<section id="{0}"><h3>{0}</h3>{1}</section>').format(name, _table(rows))


def _table(rows: list[tuple[Markup, Markup]]) -> Markup:
    lines = (Markup("<tr><th scope=row>{}</th><td>{}</td></tr>").format(*row) for row in rows)
    return Markup("<table>{}</table>").format(Markup("\n").join(lines))


def _type(schema: dict[str, Any]) -> Markup:
    """A schema in a few words; one of the components as a link to it."""
    if "$ref" in schema:
        return Markup('<a href="#{0}">{0}</a>').format(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return Markup(" or ").join(map(_type, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return Markup(" or ").join(Markup("<code>{}</code>").format(value) for value in values)
    kind = schema.get("type", "anything")
    if kind == "array":
        return Markup("list of {}").format(_type(schema.get("items", {})))
    if kind == "object":
        inner = schema.get("properties", {})
        named = Markup(", ").join(Markup("{}: {}").format(name, _type(each)) for name, each in inner.items())
        return Markup("object ({})").format(named) if inner else Markup("object")
    words = " or ".join(kind) if isinstance(kind, list) else str(kind)
    bounds = [f"{text} {schema[name]}" for name, text in _BOUNDS.items() if name in schema]
    return escape(", ".join([words, *bounds]))


_BOUNDS = {"format": "as", "minimum": "at least", "maximum": "at most", "default": "by default"}


def blueprint(settings: Settings, needs_key: bool) -> Blueprint:
    """The route of the page."""
    routes = Blueprint("docs", __name__)
    made = page(openapi.document(settings, needs_key))

    @routes.get("/docs")
    def docs() -> Response:
        """The page."""
        return Response(made, mimetype="text/html", headers=ui.HEADERS)

    return routes
