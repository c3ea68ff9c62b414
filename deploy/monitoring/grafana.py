"""Grafana's JSON of a dashboard, from rows of panels: places are reckoned, and the data source is a variable."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SCHEMA = 41
"""Of dashboards, as Grafana 12 writes them; later versions read it."""
WIDTH, HEIGHT = 8, 8
"""Of a panel, in the grid's units: three in a row of 24."""
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

Json = dict[str, Any]


@dataclass(frozen=True)
class Panel:
    """One question, and its answer as a graph (timeseries), a number (stat) or a list (table)."""

    title: str
    says: str
    """What it shows, and what to make of it: the panel's help."""
    queries: tuple[tuple[str, str], ...]
    """PromQL and the legend of each."""
    unit: str = "short"
    kind: str = "timeseries"


@dataclass(frozen=True)
class Row:
    """A heading and what stands under it."""

    title: str
    panels: tuple[Panel, ...]


def dashboard(title: str, description: str, rows: Sequence[Row], variables: Sequence[Json]) -> Json:
    """The whole file. Without a `uid`: Grafana gives it one."""
    return {
        "title": title,
        "description": description,
        "tags": ["whisper-operator"],
        "schemaVersion": SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_source(), *variables]},
        "panels": _placed(rows),
    }


def choice(name: str, label: str, query: str) -> Json:
    """A variable of some values of a label, or all."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def number(name: str, label: str, value: str) -> Json:
    """A variable that is typed in."""
    return {
        "name": name,
        "label": label,
        "type": "textbox",
        "query": value,
        "current": {"text": value, "value": value},
    }


def _source() -> Json:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
    }


def _placed(rows: Sequence[Row]) -> list[Json]:
    found: list[Json] = []
    y = 0
    for row in rows:
        place = {"x": 0, "y": y, "w": 24, "h": 1}
        found.append(
            {
                "id": len(found) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "panels": [],
                "gridPos": place,
            }
        )
        y += 1
        for number, each in enumerate(row.panels):
            x = number % 3 * WIDTH
            place = {"x": x, "y": y + number // 3 * HEIGHT, "w": WIDTH, "h": HEIGHT}
            found.append({"id": len(found) + 1, "gridPos": place, **_panel(each)})
        y += -(-len(row.panels) // 3) * HEIGHT
    return found


def _panel(panel: Panel) -> Json:
    is_now = panel.kind != "timeseries"
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": SOURCE,
            "expr": query,
            "legendFormat": legend,
            "instant": is_now,
            "range": not is_now,
            **({"format": "table"} if panel.kind == "table" else {}),
        }
        for number, (query, legend) in enumerate(panel.queries)
    ]
    options: dict[str, Json] = {
        "timeseries": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "stat": {
            "reduceOptions": {"calcs": ["lastNotNull"]},
            "textMode": "value_and_name",
            "colorMode": "none",
        },
        "table": {"showHeader": True},
    }
    result: Json = {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, **({} if is_now else {"min": 0})},
            "overrides": [],
        },
        "options": options[panel.kind],
    }
    if panel.kind == "table":  # which has a column of times that say nothing
        hidden = {"excludeByName": {"Time": True, "Value": True}}
        result["transformations"] = [{"id": "organize", "options": hidden}]
    return result
