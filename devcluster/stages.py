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

from devcluster import stage_parts as parts
from devcluster.stage_parts import Object

START_DURATION = "devcluster.whisper-operator.io/start-duration"
FAULTS = ("image-pull", "crash-loop", "oom", "no-device", "missing-secret", "slow-start", "never-ready")

NO_DEVICE = (
    '{"message": "WHISPER_DEVICE=cuda, but CUDA can\'t be used: no driver; NVIDIA driver here: none; this torch 2.13.0 is built'
    ' for CUDA 13.0", "level": "CRITICAL"}'
)
"""The last line of the server's log then."""


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
daemonEndpoints: {kubeletEndpoint: {Port: {{ NodePort }}}}
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
        parts.stage("Node", "node-initialize", [parts.ready("NotIn")], [parts.status(conditions, identity)]),
        parts.stage(
            "Node", "node-heartbeat-with-lease", [parts.ready("In")], [parts.status(conditions)], 600_000
        ),
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
    passed = f"""{parts.WHICH}
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
    gone = [
        parts.where(".metadata.deletionTimestamp", "Exists"),
        parts.where(".metadata.finalizers", "DoesNotExist"),
    ]
    no_ip = parts.where(".status.podIP", "DoesNotExist")
    return [
        parts.stage(
            "Pod",
            "pod-admit",
            [parts.ALIVE, no_ip],
            [parts.status(admitted, parts.conditions(False), passed)],
            100,
        ),
        parts.stage(
            "Pod",
            "pod-run",
            [parts.ALIVE, parts.ADMITTED, parts.fault("NotIn", *FAULTS), parts.ready("NotIn")],
            [parts.run(ready=True, started=True)],
            400,
        ),
        parts.stage("Pod", "pod-delete", gone, [{"delete": True}], 100),
    ]


def _image_pull_stages() -> list[Object]:
    missing = 'printf "rpc error: code = NotFound desc = failed to pull and unpack image %q: not found" $container.image'
    back_off = 'printf "Back-off pulling image %q" $container.image'
    failed = (
        'printf "Failed to pull image %q: rpc error: code = NotFound desc = failed to pull and unpack image %q: not found"'
        " $container.image $container.image"
    )
    fault = parts.fault("In", "image-pull")
    return [
        parts.stage(
            "Pod",
            "pod-image-pull-error",
            [parts.ALIVE, fault, parts.waiting("In", "ContainerCreating")],
            [
                parts.event("Warning", "Failed", "pull", failed),
                parts.status(parts.conditions(False), parts.containers(parts.wait("ErrImagePull", missing))),
            ],
            300,
        ),
        parts.stage(
            "Pod",
            "pod-image-pull-back-off",
            [parts.ALIVE, fault, parts.waiting("In", "ErrImagePull")],
            [
                parts.event("Normal", "BackOff", "pull-back-off", back_off),
                parts.event("Warning", "Failed", "pull-failed", '"Error: ImagePullBackOff"'),
                parts.status(
                    parts.conditions(False), parts.containers(parts.wait("ImagePullBackOff", back_off))
                ),
            ],
            1_000,
        ),
    ]


def _crash_stages() -> list[Object]:
    """The kubelet restarts at once the first time and waits after that: the first back-off shows one restart already."""
    fault = parts.fault("In", "crash-loop", "oom", "no-device")
    pod = '(printf "%s_%s(%s)" $pod.metadata.name $pod.metadata.namespace $pod.metadata.uid)'
    waiting = parts.wait(
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
    crash = parts.status(
        parts.WHICH,
        parts.conditions(False),
        parts.containers(ended + waiting, restarts="max 1 (int $before.restartCount)"),
    )
    return [
        parts.stage(
            "Pod",
            "pod-crash-run",
            [
                parts.ALIVE,
                parts.ADMITTED,
                fault,
                parts.NOT_RUNNING,
                parts.waiting("NotIn", "CrashLoopBackOff"),
            ],
            [parts.run(ready=False, started=True)],
            300,
        ),
        parts.stage(
            "Pod",
            "pod-crash",
            [parts.ALIVE, fault, parts.RUNNING],
            [parts.event("Warning", "BackOff", "crash", message), crash],
            1_000,
        ),
        parts.stage(
            "Pod",
            "pod-crash-restart",
            [parts.ALIVE, fault, parts.waiting("In", "CrashLoopBackOff")],
            [parts.run(ready=False, started=True, restarts="add 1 (int $before.restartCount)")],
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
    where = [parts.ALIVE, parts.fault("In", "missing-secret"), parts.waiting("In", "ContainerCreating")]
    return [
        parts.stage(
            "Pod",
            "pod-missing-secret",
            where,
            [parts.event("Warning", "FailedMount", "mount", message, find)],
            5_000,
        )
    ]


def _slow_start_stages() -> list[Object]:
    fault = parts.fault("In", "slow-start")
    delay = {
        "durationMilliseconds": 20_000,
        "durationFrom": {"expressionFrom": f'.metadata.annotations["{START_DURATION}"]'},
    }
    return [
        parts.stage(
            "Pod",
            "pod-slow-start-run",
            [parts.ALIVE, parts.ADMITTED, fault, parts.NOT_RUNNING],
            [parts.run(ready=False, started=False)],
            400,
        ),
        parts.stage(
            "Pod",
            "pod-slow-start-ready",
            [parts.ALIVE, fault, parts.RUNNING, parts.ready("NotIn")],
            [parts.run(ready=True, started=True)],
            delay,
        ),
    ]


def _never_ready_stages() -> list[Object]:
    fault = parts.fault("In", "never-ready")
    unhealthy = parts.event(
        "Warning",
        "Unhealthy",
        "unhealthy",
        '"Readiness probe failed: HTTP probe failed with statuscode: 503"',
    )
    steps = [unhealthy, parts.run(ready=False, started=True)]
    return [
        parts.stage(
            "Pod", "pod-never-ready-run", [parts.ALIVE, parts.ADMITTED, fault, parts.NOT_RUNNING], steps, 400
        ),
        parts.stage(
            "Pod", "pod-never-ready-again", [parts.ALIVE, fault, parts.RUNNING, parts.ready("In")], steps, 400
        ),
    ]
