"""A hook of mkdocs: pages of docs/ link to files beside it as they do in the repository, and the site has these files as pages.

A link to ../deploy/base/rbac.yaml leads to a page with its text, one to ../server/README.md to that page, one to a folder to its
README.md, or else to a list of what is in it: so a link is right for the version it stands in, wherever that is published. A link
to what does not exist ends the build.
"""

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs/"
INSIDE = "repository/"
"""Where on the site the files outside docs/ are."""

LINK = re.compile(r"(\]\()([^)\s]+)(\))")
FENCE = re.compile(r"\s*(```+|~~~+)")
MARKER = re.compile(r"([-*+]|\d+[.)])( +)(?=\S)")
LANGUAGES = {
    ".yaml": "yaml",
    ".yml": "yaml",
    ".py": "python",
    ".json": "json",
    ".toml": "toml",
    ".js": "javascript",
}


def on_files(files: Files, config: Any) -> Files:
    """Add what pages link to, and what those that are added link to."""
    waiting = [each.src_uri for each in files.documentation_pages()]
    while waiting:
        uri = waiting.pop()
        text = files.get_file_from_path(uri).content_string
        for path in dict.fromkeys(_paths(text, uri)):
            found = _uri(path)
            if found.startswith(INSIDE) and files.get_file_from_path(found) is None:
                files.append(File.generated(config, found, content=_content(path, found)))
                if path.endswith(".md"):
                    waiting.append(found)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Have the page's links lead to the site's files, and its lists and code be indented as Python's Markdown takes them."""
    uri = page.file.src_uri
    here = posixpath.dirname(uri)

    def link(path: str, anchor: str) -> str:
        return posixpath.relpath(_uri(path), here) + anchor

    return indented(_with_links(markdown, uri, link))


def _paths(text: str, uri: str) -> list[str]:
    """The files of the repository that a page links to, and mkdocs would not find."""
    found: list[str] = []

    def link(path: str, _: str) -> str:
        found.append(path)
        return path

    _with_links(text, uri, link)
    return found


def _with_links(text: str, uri: str, link: Callable[[str, str], str]) -> str:
    """The page's text with each link to a file, which mkdocs does not find by itself, as `link` makes it of path and anchor."""
    source = uri.removeprefix(INSIDE) if uri.startswith(INSIDE) else DOCS + uri
    if not source.startswith(DOCS) and not (ROOT / source).exists():
        return text  # a page made of a file: what its text has is no link

    def replaced(match: re.Match[str]) -> str:
        target, _, anchor = match[2].partition("#")
        if not target or ":" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if source.startswith(DOCS) and path.startswith(DOCS):
            return match[0]
        if path.startswith("../") or not (ROOT / path).exists():
            raise PluginError(f"{source} links to {match[2]}, which does not exist")
        return match[1] + link(_document(path), f"#{anchor}" if anchor else "") + match[3]

    return "".join(part if fenced else LINK.sub(replaced, part) for fenced, part in _parts(text))


def _document(path: str) -> str:
    """What stands for a path: of a folder, its README.md if it has one."""
    readme = posixpath.join(path, "README.md")
    return readme if (ROOT / readme).exists() else path


def _uri(path: str) -> str:
    """Where mkdocs has a file of the repository: a page of docs/, or a page or a copy of another file."""
    if f"{path}/" == DOCS:
        return "index.md"
    if path.startswith(DOCS):
        return path.removeprefix(DOCS)
    return INSIDE + (path if path.endswith(".md") or _text(path) is None else f"{path}.md")


def _text(path: str) -> str | None:
    """Of a file, or of a folder the names in it; None of one that has no text."""
    place = ROOT / path
    if place.is_dir():
        hidden = ("__pycache__", ".")
        names = sorted(
            each.name + "/" * each.is_dir() for each in place.iterdir() if not each.name.startswith(hidden)
        )
        return "\n".join(names)
    try:
        return place.read_text()
    except UnicodeDecodeError:
        return None


def _content(path: str, uri: str) -> str | bytes:
    text = _text(path)
    if text is None:
        return (ROOT / path).read_bytes()
    if path.endswith(".md"):
        return text
    language = LANGUAGES.get(posixpath.splitext(path)[1], "text")
    fence = "~" * 12
    return f"---\nsearch: {{exclude: true}}\n---\n# {path}\n\n{fence} {{ .{language} }}\n{text.rstrip()}\n{fence}\n"


def _parts(text: str) -> Iterator[tuple[bool, str]]:
    """The text cut at its fences; whether each part is within one."""
    part: list[str] = []
    closing = ""
    for line in text.splitlines(keepends=True):
        fence = FENCE.match(line)
        if fence and not closing:
            yield False, "".join(part)
            part, closing = [line], fence[1]
        elif fence and closing and fence[1].startswith(closing):
            yield True, "".join([*part, line])
            part, closing = [], ""
        else:
            part.append(line)
    yield bool(closing), "".join(part)


def indented(text: str) -> str:
    """The text with lists as Python's Markdown takes them, which GitHub's is wider than: what belongs to an item is indented by 4
    for each level, and an item that follows a paragraph has a blank line before it."""
    lines: list[str] = []
    columns: list[int] = []  # where the text of each open item begins
    blank, in_item = True, False  # the line before is blank; its paragraph begins with an item's marker
    for fenced, part in _parts(text):
        for number, line in enumerate(part.splitlines()):
            bare = line.lstrip(" ")
            if not bare:
                lines.append("")
                blank = True
                continue
            column = len(line) - len(bare)
            marker = None if fenced else MARKER.match(bare)
            if marker or (number == 0 if fenced else blank):
                while columns and column < columns[-1]:
                    columns.pop()
            base = columns[-1] if columns else 0
            if marker and column - base >= 4:  # code
                marker = None
            if marker and not blank and not in_item:
                lines.append("")
            lines.append(" " * (4 * len(columns) + max(column - base, 0)) + bare)
            if marker:
                columns.append(column + len(marker[0]))
            in_item = bool(marker) or (in_item and not blank)
            blank = False
    return "\n".join(lines) + "\n"
