"""Makes the Helm chart's generated half: templates of what deploy/ installs, the CRD, and the values' schema.

`python -m release.chart` writes it, `--check` says what is out of date. The files of deploy/ are taken as text, so that their
comments come along, and a value's place is a piece of that text: one that is no longer there stops this with the piece. What has
no counterpart in deploy/ (values, ConfigMaps, notes) is written by hand, beside.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml
from whisper_operator import __version__

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "whisper-operator"

OLDEST_KUBERNETES = "1.32"
NAMESPACE = "{{ .Release.Namespace }}"
CLUSTER_WIDE = ("ClusterRole", "ClusterRoleBinding")

Pieces = Mapping[str, str]
"""Text of deploy/ by what a template has in its place."""


def _optional(value: str, indent: int) -> str:
    """A field of the pod that is there where the value is; `indent` of its list's items, or of its mapping's fields."""
    return (
        f"      {{{{- with .Values.{value} }}}}\n      {value}:\n"
        f"{' ' * indent}{{{{- toYaml . | nindent {indent} }}}}\n      {{{{- end }}}}\n"
    )


RIGHTS: Pieces = {
    "namespace: whisper-operator}": f"namespace: {NAMESPACE}}}",
    "kind: ClusterRole, name: whisper-operator}": "kind: ClusterRole, name: {{ .Values.clusterName }}}",
}
POD: Pieces = {
    "  replicas: 2\n": "  replicas: {{ .Values.replicas }}\n",
    '        prometheus.io/port: "8080"\n': (
        '        prometheus.io/port: "8080"\n'
        "        # Another configuration needs new pods; under kustomize the ConfigMap's name has this hash.\n"
        '        checksum/config: {{ include "whisper-operator.config" . | sha256sum }}\n'
    ),
    "      serviceAccountName: whisper-operator\n": (
        "      serviceAccountName: whisper-operator\n"
        + _optional("imagePullSecrets", 6)
        + _optional("nodeSelector", 8)
        + _optional("tolerations", 6)
        + _optional("affinity", 8)
    ),
    "        image: whisper-operator\n": '        image: {{ include "whisper-operator.image" . }}\n',
    "        resources:\n          requests: {cpu: 100m, memory: 128Mi}\n          limits: {memory: 512Mi}\n": (
        "        resources:\n          {{- toYaml .Values.resources | nindent 10 }}\n"
    ),
}
POLICY: Pieces = {
    "values: [gmp-system, gke-gmp-system, monitoring]": "values: {{ toJson .Values.networkPolicy.scrapers }}",
    "    - {port: 443}\n    - {port: 6443}\n": (
        "    {{- range .Values.networkPolicy.apiServerPorts }}\n    - {port: {{ . }}}\n    {{- end }}\n"
    ),
}
ACCOUNT: Pieces = {
    "  name: whisper-operator\n": (
        "  name: whisper-operator\n"
        "  {{- with .Values.serviceAccount.annotations }}\n  annotations:\n    {{- toYaml . | nindent 4 }}\n  {{- end }}\n"
    ),
}


class ChartError(Exception):
    """What deploy/ has is not what this module knows."""


def generated() -> dict[Path, str]:
    """Every file of the chart that nobody edits, by its path."""
    files = {
        "Chart.yaml": _chart(),
        "values.schema.json": _schema(),
        "files/whisperendpoints.yaml": (ROOT / "crds" / "whisperendpoints.yaml").read_text(),
        "templates/crd.yaml": _crd(),
        "templates/rbac.yaml": _template("base/rbac.yaml"),
        "templates/roles.yaml": _template("base/roles.yaml"),
        "templates/operator.yaml": _template("base/operator.yaml"),
        "templates/namespaces.yaml": _template("overlays/namespaced/rights.yaml", each_namespace=True),
        "templates/podmonitoring.yaml": _when(
            ".Values.podMonitoring.enabled", _template("components/podmonitoring/podmonitoring.yaml")
        ),
    }
    return {CHART / name: text for name, text in files.items()}


def out_of_date() -> list[Path]:
    """Those that are not as `generated` would have them."""
    return [path for path, text in generated().items() if not path.exists() or path.read_text() != text]


def _template(source: str, *, each_namespace: bool = False) -> str:
    """The objects of a file of deploy/, each with the chart's values in it."""
    text = (DEPLOY / source).read_text()
    if "{{" in text:
        raise ChartError(f"deploy/{source} holds {{{{, which Helm would take for its own")
    head = f"{{{{- /* Made of deploy/{source} by `python -m release.chart`. */ -}}}}\n"
    objects = [_object(each, source, each_namespace=each_namespace) for each in text.split("---\n")]
    if not each_namespace:
        return head + "---\n".join(objects)
    return head + "{{- range .Values.namespaces }}\n---\n" + "---\n".join(objects) + "{{- end }}\n"


def _object(text: str, source: str, *, each_namespace: bool) -> str:
    parsed = yaml.safe_load(text)
    kind, name = parsed["kind"], parsed["metadata"]["name"]

    def put(pieces: Pieces) -> None:
        nonlocal text
        for piece, template in pieces.items():
            if text.count(piece) != 1:
                raise ChartError(
                    f"{kind} {name} of deploy/{source} has not once what the chart has a value for: {piece!r}"
                )
            text = text.replace(piece, template)

    if kind == "ServiceAccount":
        put(ACCOUNT)
    if kind == "Deployment":
        put(POD)
    if kind == "NetworkPolicy":
        put(POLICY)
    if kind.endswith("Binding"):
        wide = parsed["roleRef"]["kind"] == "ClusterRole"
        put(RIGHTS if wide else {piece: RIGHTS[piece] for piece in list(RIGHTS)[:1]})
    title = f"metadata:\n  name: {name}\n"
    if kind in CLUSTER_WIDE:
        put(
            {
                title: f"metadata:\n  name: {name.replace('whisper-operator', '{{ .Values.clusterName }}', 1)}\n"
            }
        )
    elif "namespace" in parsed["metadata"]:
        own = f"{title}  namespace: {parsed['metadata']['namespace']}\n"
        put({own: f"{title}  namespace: {'{{ . }}' if each_namespace else NAMESPACE}\n"})
    else:
        put({title: f"{title}  namespace: {NAMESPACE}\n"})
    if each_namespace:  # where the dot is the namespace
        text = text.replace("{{ .Release", "{{ $.Release").replace("{{ .Values", "{{ $.Values")
    if kind == "ClusterRoleBinding":
        return _when("not .Values.namespaces", text)
    return _when(".Values.networkPolicy.enabled", text) if kind == "NetworkPolicy" else text


def _when(condition: str, text: str) -> str:
    return f"{{{{- if {condition} }}}}\n{text}{{{{- end }}}}\n"


def _crd() -> str:
    """Helm would never upgrade what is in its folder crds/, and would take away what is in templates/, but for the annotation."""
    return (
        "{{- /* Made by `python -m release.chart`. */ -}}\n{{- if .Values.crds.install }}\n"
        '{{- $crd := .Files.Get "files/whisperendpoints.yaml" }}\n'
        '{{ $crd | replace "  name: whisperendpoints.whisper-operator.io\\n" '
        '"  name: whisperendpoints.whisper-operator.io\\n  annotations: {helm.sh/resource-policy: keep}\\n" }}\n'
        "{{- end }}\n"
    )


def _schema() -> str:
    schema = yaml.safe_load((CHART.parent / "values.schema.yaml").read_text())
    policy = yaml.safe_load((ROOT / "operator/whisper_operator/policy/schema.yaml").read_text())
    schema["$defs"] = {**policy.pop("$defs"), "policy": policy}
    del policy["$schema"]
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _chart() -> str:
    return f"""\
# Made by `python -m release.chart`: the version is the operator's package's.
apiVersion: v2
name: whisper-operator
description: Speech-to-text as a Kubernetes resource
type: application
version: {__version__}
appVersion: {__version__}
kubeVersion: ">={OLDEST_KUBERNETES}.0-0"
keywords: [speech-to-text, transcription, whisper, gpu]
"""


def main() -> None:
    stale = out_of_date()
    if "--check" in sys.argv[1:]:
        if stale:
            names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
            sys.exit(f"out of date: {names}. `.venv/bin/python -m release.chart` writes them anew.")
        return
    files = generated()
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path])
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
