"""The documentation as a static site: it builds without a warning, leads nowhere in vain, and loads nothing from elsewhere."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
MKDOCS = ROOT / ".venv-release" / "bin" / "mkdocs"


class Html(HTMLParser):
    """What of a page of the site can be wrong."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.paragraphs: list[str] = []
        self._open = False
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if name := found.get("id"):
            self.ids.add(name)
        target = found.get("href") or found.get("src")
        if target and tag == "a":
            self.links.append(target)
        elif target:
            self.loaded.append(target)
        if tag == "p":
            self.paragraphs.append("")
            self._open = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "p":
            self._open = False

    def handle_data(self, data: str) -> None:
        if self._open:
            self.paragraphs[-1] += data


def build(source: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a checkout; colours are off."""
    return subprocess.run(
        [MKDOCS, "build", "--strict", "--site-dir", site],
        cwd=source,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("site")
    done = build(ROOT, made)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return made


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Html]:
    """Without the one for what is not found, which is for the root of a server."""
    found = {path: Html(path) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(found) > 20
    return found


def test_every_link_leads_to_a_page_and_a_place_in_it(site: Path, pages: dict[Path, Html]) -> None:
    dead = []
    for page, html in pages.items():
        for link in html.links + html.loaded:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "mailto", "data", "javascript"):
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            if not target.exists() or (
                anchor and target in pages and anchor not in {"", "__consent"} | pages[target].ids
            ):
                dead.append(f"{page.relative_to(site)}: {link}")
    assert dead == []


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Html]) -> None:
    """A page has to do on a network of its own, and tells nobody who reads it."""
    foreign = {link for html in pages.values() for link in html.loaded if urlsplit(link).netloc}
    assert foreign == set()
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.findall(r"url\(\s*['\"]?(?:https?:)?//", styles)


def test_lists_and_tables_are_taken_for_such(pages: dict[Path, Html], site: Path) -> None:
    """GitHub and the site read the same text, each with rules of its own."""
    torn = [
        f"{path.relative_to(site)}: {text[:80]}"
        for path, html in pages.items()
        for text in html.paragraphs
        if re.search(r"^ *(- |\d+\. |\| |```|~~~)", text, re.MULTILINE)
    ]
    assert torn == []


def test_what_pages_link_to_in_the_repository_is_there(site: Path) -> None:
    text = re.sub("<[^>]+>", "", (site / "repository/deploy/base/roles.yaml.html").read_text())
    assert "kind: ClusterRole" in text


def dead_file(source: Path) -> None:
    (source / "docs" / "doctor.md").write_text("# Doctor\n\n[gone](../deploy/gone.yaml)\n")


def dead_page(source: Path) -> None:
    (source / "docs" / "doctor.md").write_text("# Doctor\n\n[gone](gone.md)\n")


def dead_anchor(source: Path) -> None:
    (source / "docs" / "doctor.md").write_text("# Doctor\n\n[gone](../README.md#gone)\n")


def outside(source: Path) -> None:
    (source / "docs" / "doctor.md").write_text("# Doctor\n\n[out](../../../etc/hosts)\n")


def not_listed(source: Path) -> None:
    (source / "docs" / "new.md").write_text("# New\n")


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (dead_file, "docs/doctor.md links to ../deploy/gone.yaml, which does not exist"),
        (dead_page, "contains a link 'gone.md', but the target is not found"),
        (dead_anchor, "does not contain an anchor '#gone'"),
        (outside, "docs/doctor.md links to ../../../etc/hosts, which does not exist"),
        (not_listed, "new.md"),
    ],
)
def test_a_page_that_leads_nowhere_or_that_nobody_finds_ends_the_build(
    fault: Callable[[Path], None], complaint: str, tmp_path: Path
) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    source = tmp_path / "checkout"
    for name in listed.stdout.split("\0")[:-1]:
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    fault(source)
    done = build(source, tmp_path / "site")
    assert done.returncode == 1
    assert complaint in " ".join(done.stderr.split())
