"""What kwok's stages are written in: selectors, and templates of what a kubelet writes to a pod's status and Events."""

from typing import Any

Object = dict[str, Any]

FAULT = "devcluster.whisper-operator.io/fault"
"""Of pods: the label or annotation that chooses a fault."""

WHICH = (
    f'{{{{ $key := "{FAULT}" }}}}\n'
    "{{ $fault := or (index (or .metadata.labels dict) $key) (index (or .metadata.annotations dict) $key) }}"
)
"""Sets $fault in a template."""


# Selectors: a jq path, an operator and values; a stage applies when all hold.


def where(key: str, operator: str, *values: str) -> Object:
    return {"key": key, "operator": operator} | ({"values": list(values)} if values else {})


def fault(operator: str, *faults: str) -> Object:
    return where(f'.metadata.labels["{FAULT}"] // .metadata.annotations["{FAULT}"]', operator, *faults)


def waiting(operator: str, reason: str) -> Object:
    return where(".status.containerStatuses.[0].state.waiting.reason", operator, reason)


def ready(operator: str) -> Object:
    return where('.status.conditions.[] | select( .type == "Ready" ) | .status', operator, "True")


ALIVE = where(".metadata.deletionTimestamp", "DoesNotExist")
ADMITTED = where(".status.podIP", "Exists")
RUNNING = where(".status.containerStatuses.[0].state.running.startedAt", "Exists")
NOT_RUNNING = where(".status.containerStatuses.[0].state.running.startedAt", "DoesNotExist")


def stage(
    kind: str, name: str, selectors: list[Object], steps: list[Object], delay: Object | int = 0
) -> Object:
    """`delay` is in milliseconds, or a kwok delay object."""
    spec: Object = {
        "resourceRef": {"apiGroup": "v1", "kind": kind},
        "selector": {"matchExpressions": selectors},
        "delay": delay if isinstance(delay, dict) else {"durationMilliseconds": delay},
        "steps": steps,
    }
    return {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": {"name": name}, "spec": spec}


# Templates. kwok renders them with the pod as `.`.


def status(*parts: str) -> Object:
    text = "\n".join(("{{ $now := Now }}", "{{ $pod := . }}", *parts))
    return {"patch": {"subresource": "status", "root": "status", "template": text}}


def conditions(ready: bool) -> str:
    verdict = (
        'status: "True"\n  reason: null\n  message: null'
        if ready
        else 'status: "False"\n  reason: ContainersNotReady\n'
        "  message: 'containers with unready status: "
        "[{{ range $i, $c := .spec.containers }}{{ if $i }} {{ end }}{{ $c.name }}{{ end }}]'"
    )
    return "conditions:\n" + "\n".join(
        f"- type: {kind}\n  lastTransitionTime: {{{{ $now | Quote }}}}\n  {verdict}"
        for kind in ("Ready", "ContainersReady")
    )


def containers(
    state: str, *, ready: bool = False, started: bool = False, restarts: str = "$before.restartCount"
) -> str:
    """Every container's status; `state` is the template of its `state`, and of `lastState` where that changes."""
    last = "" if "lastState" in state else "  lastState: {{ toJson (or $before.lastState dict) }}\n"
    return (
        "containerStatuses:\n"
        "{{ range $index, $container := .spec.containers }}\n"
        "{{ $before := index $pod.status.containerStatuses $index }}\n"
        "- name: {{ $container.name | Quote }}\n"
        "  image: {{ $container.image | Quote }}\n"
        '  imageID: ""\n'
        f"  ready: {str(ready).lower()}\n"
        f"  started: {str(started).lower()}\n"
        f"  restartCount: {{{{ {restarts} }}}}\n"
        f"{last}"
        f"{state}\n"
        "{{ end }}"
    )


RUN = "  state: {running: {startedAt: {{ $now | Quote }}}}"


def run(*, ready: bool, started: bool, restarts: str = "$before.restartCount") -> Object:
    return status(
        "phase: Running",
        conditions(ready),
        containers(RUN, ready=ready, started=started, restarts=restarts),
    )


def wait(reason: str, message: str) -> str:
    """`message` is an expression of the template language."""
    return f"  state: {{waiting: {{reason: {reason}, message: {{{{ {message} | Quote }}}}}}}}"


def event(kind: str, reason: str, slug: str, message: str, before: str = "") -> Object:
    """An Event about the pod's first container, as the kubelet reports it; `message` is a template expression, `before` the
    template's lines that prepare it."""
    text = f"""\
{{{{ $now := Now }}}}
{before}
{{{{ $container := index .spec.containers 0 }}}}
apiVersion: v1
kind: Event
metadata:
  name: {{{{ printf "%s.{slug}" .metadata.name | Quote }}}}
  namespace: {{{{ .metadata.namespace | Quote }}}}
type: {kind}
reason: {reason}
message: {{{{ {message} | Quote }}}}
count: 1
firstTimestamp: {{{{ $now | Quote }}}}
lastTimestamp: {{{{ $now | Quote }}}}
source: {{component: kubelet, host: {{{{ .spec.nodeName | Quote }}}}}}
reportingComponent: kubelet
involvedObject:
  apiVersion: v1
  kind: Pod
  namespace: {{{{ .metadata.namespace | Quote }}}}
  name: {{{{ .metadata.name | Quote }}}}
  uid: {{{{ .metadata.uid | Quote }}}}
  fieldPath: {{{{ printf "spec.containers{{%s}}" $container.name | Quote }}}}
"""
    return {"apply": {"template": text}}
