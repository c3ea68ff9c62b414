"""docs/monitoring.md speaks of every alert, and of no panel or metric that there is not."""

import json
import re
from pathlib import Path

import yaml

from deploy.monitoring.__main__ import COMPONENTS, RULES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "monitoring.md").read_text()

ALERTS = [
    rule
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
]
PANELS = [
    panel
    for path in sorted((COMPONENTS / "dashboards").glob("*.json"))
    for panel in json.loads(path.read_text())["panels"]
    if panel["type"] != "row"
]


def anchor(heading: str) -> str:
    """Of a heading, as GitHub and mkdocs make it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


ANCHORS = {anchor(heading) for heading in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)}


def test_each_alert_has_a_section_that_it_leads_to() -> None:
    for alert in ALERTS:
        assert alert["annotations"]["runbook"] == f"docs/monitoring.md#{anchor(alert['alert'])}"
        section = PAGE.split(f"\n### {alert['alert']}\n")
        assert len(section) == 2, alert["alert"]
        assert section[1].lstrip().startswith(alert["labels"]["severity"]), alert["alert"]
    named = set(re.findall(r"^### (Whisper\w+)$", PAGE, re.MULTILINE))
    assert named == {alert["alert"] for alert in ALERTS}


def test_links_within_the_page_lead_somewhere() -> None:
    assert set(re.findall(r"\]\(#([^)]*)\)", PAGE)) <= ANCHORS


def test_links_to_files_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


def test_each_panel_that_is_named_is_there() -> None:
    titles = {panel["title"] for panel in PANELS}
    named = set(re.findall(r"(?<!\*)\*([A-Z][^*|]+)\*(?!\*)", re.sub(r"\s+", " ", PAGE)))
    assert len(named) > 15
    assert named <= titles | {"italics"}


def documented() -> set[str]:
    return set(re.findall(r"^\| `([a-z_]+)`", PAGE, re.MULTILINE))


def test_what_is_asked_for_is_documented() -> None:
    queries = [alert["expr"] for alert in ALERTS]
    queries += [target["expr"] for panel in PANELS for target in panel["targets"]]
    asked = {name for query in queries for name in re.findall(r"\bwhisper_[a-z_]+", query)} - {
        "whisper_endpoint"
    }
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked} <= documented()
