"""What kwok does to simulated nodes and pods: the stages they go through, the faults that tests ask for included.

A pod without a fault is ready within a second and, deleted, gone at once. A fault is chosen by the label or annotation
`devcluster.whisper-operator.io/fault` on the pod:

image-pull   the image can't be pulled: ErrImagePull, then ImagePullBackOff
crash-loop   the containers end with exit status 1 a second after each start: CrashLoopBackOff
oom          likewise, killed for memory: OOMKilled
no-device    likewise, with exit status 3 and what the server says when it can't use its GPU
missing-secret  waiting for a volume, as the Secret of its first such volume does not exist: FailedMount
slow-start   running, but ready only after 20 s, or what the annotation .../start-duration says (such as "90s")
never-ready  running, but the readiness probe never passes

Conditions, container statuses and Events read as a kubelet writes them. A fault may be set on a running pod and taken away.
"""

import json
from typing import Any

FAULT = "devcluster.whisper-operator.io/fault"
START_DURATION = "devcluster.whisper-operator.io/start-duration"
FAULTS = ("image-pull", "crash-loop", "oom", "no-device", "missing-secret", "slow-start", "never-ready")

NO_DEVICE = (
    '{"message": "WHISPER_DEVICE=cuda, but CUDA can\'t be used: no driver; NVIDIA driver here: none; this torch 2.13.0 is built'
    ' for CUDA 13.0", "level": "CRITICAL"}'
)
"""The last line of the server's log then."""

Object = dict[str, Any]

_WHICH = (
    f'{{{{ $key := "{FAULT}" }}}}\n'
    "{{ $fault := or (index (or .metadata.labels dict) $key) (index (or .metadata.annotations dict) $key) }}"
)
"""Sets $fault in a template."""


def all_stages() -> list[Object]:
    """The Stage objects for kwok's configuration."""
    return [
        *_node_stages(),
        *_healthy_stages(),
        *_image_pull_stages(),
        *_crash_stages(),
        *_missing_secret_stages(),
        *_slow_start_stages(),
        *_never_ready_stages(),
    ]


# Selectors: a jq path, an operator and values; a stage applies when all hold.


def _where(key: str, operator: str, *values: str) -> Object:
    return {"key": key, "operator": operator} | ({"values": list(values)} if values else {})


def _fault(operator: str, *faults: str) -> Object:
    return _where(f'.metadata.labels["{FAULT}"] // .metadata.annotations["{FAULT}"]', operator, *faults)


def _waiting(operator: str, reason: str) -> Object:
    return _where(".status.containerStatuses.[0].state.waiting.reason", operator, reason)


def _ready(operator: str) -> Object:
    return _where('.status.conditions.[] | select( .type == "Ready" ) | .status', operator, "True")


_ALIVE = _where(".metadata.deletionTimestamp", "DoesNotExist")
_ADMITTED = _where(".status.podIP", "Exists")
_RUNNING = _where(".status.containerStatuses.[0].state.running.startedAt", "Exists")
_NOT_RUNNING = _where(".status.containerStatuses.[0].state.running.startedAt", "DoesNotExist")


def _stage(kind: str, name: str, where: list[Object], steps: list[Object], delay: Object | int = 0) -> Object:
    """`delay` is in milliseconds, or a kwok delay object."""
    spec: Object = {
        "resourceRef": {"apiGroup": "v1", "kind": kind},
        "selector": {"matchExpressions": where},
        "delay": delay if isinstance(delay, dict) else {"durationMilliseconds": delay},
        "steps": steps,
    }
    return {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": {"name": name}, "spec": spec}


# Templates. kwok renders them with the pod as `.`.


def _status(*parts: str) -> Object:
    text = "\n".join(("{{ $now := Now }}", "{{ $pod := . }}", *parts))
    return {"patch": {"subresource": "status", "root": "status", "template": text}}


def _conditions(ready: bool) -> str:
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


def _containers(
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


_RUN = "  state: {running: {startedAt: {{ $now | Quote }}}}"


def _run(*, ready: bool, started: bool, restarts: str = "$before.restartCount") -> Object:
    return _status(
        "phase: Running",
        _conditions(ready),
        _containers(_RUN, ready=ready, started=started, restarts=restarts),
    )


def _wait(reason: str, message: str) -> str:
    """`message` is an expression of the template language."""
    return f"  state: {{waiting: {{reason: {reason}, message: {{{{ {message} | Quote }}}}}}}}"


def _event(kind: str, reason: str, slug: str, message: str, before: str = "") -> Object:
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


def _node_stages() -> list[Object]:
    """Ready at once, and kept alive by the lease that kwok renews."""
    conditions = (
        "conditions:\n{{ range NodeConditions }}\n"
        "- {type: {{ .type | Quote }}, status: {{ .status | Quote }}, reason: {{ .reason | Quote }},"
        " message: {{ .message | Quote }},"
        " lastHeartbeatTime: {{ $now | Quote }}, lastTransitionTime: {{ $now | Quote }}}\n{{ end }}"
    )
    identity = """\
phase: Running
addresses:
{{ YAML .status.addresses 1 }}
allocatable:
{{ YAML .status.allocatable 1 }}
capacity:
{{ YAML .status.capacity 1 }}
nodeInfo: {architecture: amd64, operatingSystem: linux, osImage: simulated, containerRuntimeVersion: "kwok-{{ Version }}",
  kernelVersion: "kwok-{{ Version }}", kubeletVersion: "kwok-{{ Version }}", kubeProxyVersion: "",
  bootID: "", machineID: "", systemUUID: ""}"""
    return [
        _stage("Node", "node-initialize", [_ready("NotIn")], [_status(conditions, identity)]),
        _stage("Node", "node-heartbeat-with-lease", [_ready("In")], [_status(conditions)], 600_000),
    ]


def _healthy_stages() -> list[Object]:
    admitted = """\
phase: Pending
startTime: {{ $now | Quote }}
hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
{{ $ip := PodIPWith .spec.nodeName (or .spec.hostNetwork false) .metadata.uid .metadata.name .metadata.namespace }}
podIP: {{ $ip | Quote }}
podIPs: [{ip: {{ $ip | Quote }}}]"""
    # Init containers count as done, readiness gates as passed.
    passed = f"""{_WHICH}
{{{{ $mounted := "True" }}}}{{{{ if eq (or $fault "") "missing-secret" }}}}{{{{ $mounted = "False" }}}}{{{{ end }}}}
"""
    passed += """\
- {type: PodReadyToStartContainers, status: {{ $mounted | Quote }}, lastTransitionTime: {{ $now | Quote }}}
- {type: Initialized, status: "True", lastTransitionTime: {{ $now | Quote }}}
{{ range .spec.readinessGates }}
- {type: {{ .conditionType | Quote }}, status: "True", lastTransitionTime: {{ $now | Quote }}}
{{ end }}
initContainerStatuses:
{{ range .spec.initContainers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
  ready: true
  restartCount: 0
  {{ if eq (or .restartPolicy "") "Always" }}
  started: true
  state: {running: {startedAt: {{ $now | Quote }}}}
  {{ else }}
  started: false
  state: {terminated: {exitCode: 0, reason: Completed, startedAt: {{ $now | Quote }}, finishedAt: {{ $now | Quote }}}}
  {{ end }}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
  ready: false
  started: false
  restartCount: 0
  state: {waiting: {reason: ContainerCreating}}
{{ end }}"""
    gone = [_where(".metadata.deletionTimestamp", "Exists"), _where(".metadata.finalizers", "DoesNotExist")]
    no_ip = _where(".status.podIP", "DoesNotExist")
    return [
        _stage("Pod", "pod-admit", [_ALIVE, no_ip], [_status(admitted, _conditions(False), passed)], 100),
        _stage(
            "Pod",
            "pod-run",
            [_ALIVE, _ADMITTED, _fault("NotIn", *FAULTS), _ready("NotIn")],
            [_run(ready=True, started=True)],
            400,
        ),
        _stage("Pod", "pod-delete", gone, [{"delete": True}], 100),
    ]


def _image_pull_stages() -> list[Object]:
    missing = 'printf "rpc error: code = NotFound desc = failed to pull and unpack image %q: not found" $container.image'
    back_off = 'printf "Back-off pulling image %q" $container.image'
    failed = (
        'printf "Failed to pull image %q: rpc error: code = NotFound desc = failed to pull and unpack image %q: not found"'
        " $container.image $container.image"
    )
    fault = _fault("In", "image-pull")
    return [
        _stage(
            "Pod",
            "pod-image-pull-error",
            [_ALIVE, fault, _waiting("In", "ContainerCreating")],
            [
                _event("Warning", "Failed", "pull", failed),
                _status(_conditions(False), _containers(_wait("ErrImagePull", missing))),
            ],
            300,
        ),
        _stage(
            "Pod",
            "pod-image-pull-back-off",
            [_ALIVE, fault, _waiting("In", "ErrImagePull")],
            [
                _event("Normal", "BackOff", "pull-back-off", back_off),
                _event("Warning", "Failed", "pull-failed", '"Error: ImagePullBackOff"'),
                _status(_conditions(False), _containers(_wait("ImagePullBackOff", back_off))),
            ],
            1_000,
        ),
    ]


def _crash_stages() -> list[Object]:
    """The kubelet restarts at once the first time and waits after that: the first back-off shows one restart already."""
    fault = _fault("In", "crash-loop", "oom", "no-device")
    pod = '(printf "%s_%s(%s)" $pod.metadata.name $pod.metadata.namespace $pod.metadata.uid)'
    waiting = _wait(
        "CrashLoopBackOff",
        f'printf "back-off 10s restarting failed container=%s pod=%s" $container.name {pod}',
    )
    ended = (
        "  lastState:\n    terminated:\n"
        '      {{ if eq $fault "oom" }}\n      exitCode: 137\n      reason: OOMKilled\n'
        '      {{ else if eq $fault "no-device" }}\n      exitCode: 3\n      reason: Error\n'
        f"      message: {json.dumps(NO_DEVICE)}\n"
        "      {{ else }}\n      exitCode: 1\n      reason: Error\n      {{ end }}\n"
        "      startedAt: {{ $now | Quote }}\n      finishedAt: {{ $now | Quote }}\n"
    )
    message = (
        'printf "Back-off restarting failed container %s in pod %s_%s(%s)"'
        " $container.name .metadata.name .metadata.namespace .metadata.uid"
    )
    crash = _status(
        _WHICH, _conditions(False), _containers(ended + waiting, restarts="max 1 (int $before.restartCount)")
    )
    return [
        _stage(
            "Pod",
            "pod-crash-run",
            [_ALIVE, _ADMITTED, fault, _NOT_RUNNING, _waiting("NotIn", "CrashLoopBackOff")],
            [_run(ready=False, started=True)],
            300,
        ),
        _stage(
            "Pod",
            "pod-crash",
            [_ALIVE, fault, _RUNNING],
            [_event("Warning", "BackOff", "crash", message), crash],
            1_000,
        ),
        _stage(
            "Pod",
            "pod-crash-restart",
            [_ALIVE, fault, _waiting("In", "CrashLoopBackOff")],
            [_run(ready=False, started=True, restarts="add 1 (int $before.restartCount)")],
            10_000,
        ),
    ]


def _missing_secret_stages() -> list[Object]:
    """The pod stays as it was admitted, its containers not made; taking the fault away lets it run."""
    find = """\
{{ $volume := "" }}
{{ $secret := "" }}
{{ range .spec.volumes }}{{ if and .secret (eq $secret "") }}
{{ $volume = .name }}
{{ $secret = .secret.secretName }}
{{ end }}{{ end }}"""
    message = 'printf "MountVolume.SetUp failed for volume %q : secret %q not found" $volume $secret'
    where = [_ALIVE, _fault("In", "missing-secret"), _waiting("In", "ContainerCreating")]
    return [
        _stage(
            "Pod",
            "pod-missing-secret",
            where,
            [_event("Warning", "FailedMount", "mount", message, find)],
            5_000,
        )
    ]


def _slow_start_stages() -> list[Object]:
    fault = _fault("In", "slow-start")
    delay = {
        "durationMilliseconds": 20_000,
        "durationFrom": {"expressionFrom": f'.metadata.annotations["{START_DURATION}"]'},
    }
    return [
        _stage(
            "Pod",
            "pod-slow-start-run",
            [_ALIVE, _ADMITTED, fault, _NOT_RUNNING],
            [_run(ready=False, started=False)],
            400,
        ),
        _stage(
            "Pod",
            "pod-slow-start-ready",
            [_ALIVE, fault, _RUNNING, _ready("NotIn")],
            [_run(ready=True, started=True)],
            delay,
        ),
    ]


def _never_ready_stages() -> list[Object]:
    fault = _fault("In", "never-ready")
    unhealthy = _event(
        "Warning",
        "Unhealthy",
        "unhealthy",
        '"Readiness probe failed: HTTP probe failed with statuscode: 503"',
    )
    steps = [unhealthy, _run(ready=False, started=True)]
    return [
        _stage("Pod", "pod-never-ready-run", [_ALIVE, _ADMITTED, fault, _NOT_RUNNING], steps, 400),
        _stage("Pod", "pod-never-ready-again", [_ALIVE, fault, _RUNNING, _ready("In")], steps, 400),
    ]
