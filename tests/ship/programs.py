"""Programs in Go that a release is held against: each is built once, beside the control plane's, by the first that needs it.

Each has a folder of its own in go/, whose go.mod pins it, so that another version of one builds no other anew.
"""

from pathlib import Path

from devcluster import build
from devcluster.build import Tool

GO = Path(__file__).parent / "go"

PROGRAMS: dict[str, Tool] = {}
"""By the folder in go/, which has the program's name."""


def program(name: str) -> Path:
    """The path of the program, built first if the cache lacks it: minutes for a large one."""
    return build.ensure(GO, {name: (PROGRAMS[name],)}) / PROGRAMS[name].name
