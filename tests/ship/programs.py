"""Programs in Go that a release is held against: each is built once, beside the control plane's, by the first that needs it.

Each has a folder of its own in go/, whose go.mod pins it, so that another version of one builds no other anew.
"""

from pathlib import Path

from devcluster import build
from devcluster.build import Tool

GO = Path(__file__).parent / "go"

_PROMETHEUS = "github.com/prometheus/prometheus"
_NO_CLOUDS = ("remove_all_sd",)
"""Finding targets in clouds would be most of what there is to compile; a file lists them here."""

PROGRAMS: dict[str, Tool] = {
    "argocd-health": Tool("argocd-health", ".", "github.com/yuin/gopher-lua"),
    "kstatus": Tool("kstatus", ".", "github.com/fluxcd/cli-utils"),
    "helm": Tool(
        "helm",
        "helm.sh/helm/v4/cmd/helm",
        "helm.sh/helm/v4",
        ("helm.sh/helm/v4/internal/version.version={version}",),
    ),
    "buildkitd": Tool("buildkitd", "github.com/moby/buildkit/cmd/buildkitd", "github.com/moby/buildkit"),
    "docker-buildx": Tool("docker-buildx", "github.com/docker/buildx/cmd/buildx", "github.com/docker/buildx"),
    "registry": Tool(
        "registry",
        "github.com/distribution/distribution/v3/cmd/registry",
        "github.com/distribution/distribution/v3",
    ),
    "prometheus": Tool("prometheus", f"{_PROMETHEUS}/cmd/prometheus", _PROMETHEUS, tags=_NO_CLOUDS),
    "promtool": Tool("promtool", f"{_PROMETHEUS}/cmd/promtool", _PROMETHEUS, tags=_NO_CLOUDS),
    "oldest": Tool("oldest", "whisper-operator.io/ship/oldest", "k8s.io/apiextensions-apiserver"),
}
"""By the folder in go/, which has the program's name, or the one that FOLDERS says."""
FOLDERS = {"promtool": "prometheus"}


def program(name: str) -> Path:
    """The path of the program, built first if the cache lacks it: minutes for a large one."""
    return build.ensure(GO, {FOLDERS.get(name, name): (PROGRAMS[name],)}) / PROGRAMS[name].name
