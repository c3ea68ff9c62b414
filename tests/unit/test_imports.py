"""Imports run one way: a step knows those before it, and nothing that is pure knows kopf, a client or the event loop."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "operator" / "whisper_operator"

ORDER = (
    {"kube"},
    {"leader.lock", "leader.installations"},
    {"leader"},
    {"workqueue", "__init__"},
    {"spec.fields"},
    {"spec.egress"},
    {"accelerators"},
    {"config"},
    {"spec"},
    {"observed"},
    {"claims", "rollouts"},
    {"policy"},
    {"manifests"},
    {"apply.memory", "apply.own_fields", "apply.outcome"},
    {"apply.ownership"},
    {"apply.plan", "apply.fights"},
    {"apply.upgrade"},
    {"status"},
    {"informer"},
    {"apply.writes"},
    {"apply.applier", "status.writer"},
    {"reconcile"},
    {"offline", "process"},
    {"plugin"},
    {"policy.live"},
    {"doctor.finding", "doctor.rights"},
    {"doctor.facts"},
    {"doctor.views"},
    {"doctor.checks"},
    {"doctor"},
    {"term"},
    {"controller"},
    {"__main__"},
)
"""Each may import from those before it, and from itself."""

PURE = {
    "spec",
    "spec.fields",
    "spec.egress",
    "claims",
    "rollouts",
    "policy",
    "observed",
    "manifests",
    "apply.fights",
    "apply.memory",
    "apply.own_fields",
    "apply.outcome",
    "apply.ownership",
    "apply.plan",
    "apply.upgrade",
    "status",
    "leader.lock",
    "leader.installations",
    "doctor.finding",
    "doctor.rights",
    "doctor.facts",
    "doctor.views",
    "doctor.checks",
}
IMPURE = {"kopf", "kubernetes", "aiohttp", "asyncio", "whisper_operator.kube.client"}


def modules() -> dict[str, Path]:
    """By name below whisper_operator, such as kube.client."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        if path.stat().st_size:
            parts = path.relative_to(PACKAGE).with_suffix("").parts
            found[".".join(parts[:-1] if parts[1:] and parts[-1] == "__init__" else parts)] = path
    return found


def room(module: str) -> str:
    """The entry of ORDER that a module belongs to."""
    rooms = {name for rank in ORDER for name in rank}
    parts = module.split(".")
    names = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    found = next((name for name in names if name in rooms), None)
    assert found is not None, f"{module} has no place in ORDER: give it one"
    return found


def imported(path: Path) -> Iterator[str]:
    """What a module imports, wherever in it; `from a import b` counts as a.b where that is a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                known = below.removeprefix("whisper_operator.") in modules()
                yield below if known else str(node.module)


def ours(path: Path) -> Iterator[str]:
    for name in imported(path):
        if name.split(".")[0] == "whisper_operator":
            yield name.removeprefix("whisper_operator").removeprefix(".") or "__init__"


def test_every_module_has_its_place() -> None:
    for module in modules():
        assert room(module), module


def test_imports_run_one_way() -> None:
    rank = {name: index for index, names in enumerate(ORDER) for name in names}
    wrong = [
        f"{module} imports {other}"
        for module, path in modules().items()
        for other in ours(path)
        if room(other) != room(module) and rank[room(other)] >= rank[room(module)]
    ]
    assert wrong == []


def test_what_is_pure_knows_no_framework_and_no_client() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, path in modules().items()
        if room(module) in PURE
        for name in imported(path)
        if name in IMPURE or name.split(".")[0] in IMPURE
    ]
    assert wrong == []


def test_the_client_knows_nothing_of_ours() -> None:
    assert {
        room(other) for module, path in modules().items() if room(module) == "kube" for other in ours(path)
    } == {"kube"}
