"""The dashboard of the operator: what endpoints lack, and how the operator does."""

from deploy.monitoring.grafana import Json, Panel, Row, dashboard

RATE = "[$__rate_interval]"


def leader(metric: str) -> str:
    """What the replica says that works: both tell of the same endpoints, and their sum would be twice as many."""
    return f"({metric} and on (namespace, instance) (whisper_operator_leader == 1))"


def each(metric: str, *labels: str) -> str:
    """By these labels, over all installations; while one replica takes over from another, both may call themselves leader."""
    return f"sum by ({', '.join(labels)}) (max by ({', '.join(('namespace', *labels))}) {leader(metric)})"


def quantile(share: float, histogram: str) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate(whisper_operator_workqueue_{histogram}_bucket{RATE})))"


def of_operators(metric: str) -> str:
    """What processes of every kind have, of the operator's only."""
    return f"{metric} and on (namespace, instance) whisper_operator_leader"


ENDPOINTS = Row(
    "Endpoints",
    (
        Panel(
            "Endpoints",
            "stalled: nothing changes until somebody acts. progressing: on their way, or tried again.",
            ((each("whisper_operator_endpoints", "readiness"), "{{readiness}}"),),
            kind="stat",
        ),
        Panel(
            "What is amiss",
            "Each condition that is not as it should be. docs/troubleshooting.md has every reason; kubectl describe "
            "wep says what to do. Empty while all is well.",
            (
                (
                    "max by (endpoint_namespace, endpoint_name, condition, reason) "
                    + leader("whisper_operator_endpoint_amiss"),
                    "",
                ),
            ),
            kind="table",
        ),
        Panel(
            "Not Ready, by reason",
            "Many endpoints with the same reason at once: look at what they share (registry, nodes, quota, Google), not at each.",
            (
                (
                    "count by (reason) (max by (endpoint_namespace, endpoint_name, reason) "
                    + leader('whisper_operator_endpoint_amiss{condition="Ready"}')
                    + ")",
                    "{{reason}}",
                ),
            ),
        ),
        Panel(
            "Endpoints by readiness",
            "When did it begin?",
            ((each("whisper_operator_endpoints", "readiness"), "{{readiness}}"),),
        ),
        Panel(
            "Upgrades",
            "failed stops all others that would get the same server.",
            ((each("whisper_operator_upgrades", "state"), "{{state}}"),),
        ),
        Panel(
            "Policy and what is left over",
            "Endpoints that ask for what is not allowed, that find no room under a ceiling, and names that are gone "
            "and have left objects.",
            (
                (each("whisper_operator_policy_violations"), "not allowed"),
                (each("whisper_operator_ceilings_reached"), "no room"),
                (each("whisper_operator_orphans"), "orphans"),
            ),
        ),
    ),
)

HEALTH = Row(
    "Health of the operator",
    (
        Panel(
            "Leader",
            "1 on one replica of each installation, 0 on the others.",
            (("max by (namespace, pod) (whisper_operator_leader)", "{{namespace}}/{{pod}}"),),
            kind="stat",
        ),
        Panel(
            "Versions",
            "Replicas of each version: two while it is upgraded.",
            (("count by (version) (whisper_operator_build_info)", "{{version}}"),),
            kind="stat",
        ),
        Panel(
            "Policy in force, dead watches",
            "policy 0: the file can't be used, see the log. A dead watch makes /healthz fail.",
            (
                ("min(whisper_operator_policy_valid)", "policy"),
                ("max(whisper_operator_dead_watches)", "dead watches"),
            ),
            kind="stat",
        ),
        Panel(
            "Kinds that can't be read",
            "missing: the cluster does not have it, which is well for optional ones. forbidden: a right is missing. failing: the "
            "API server does not answer.",
            (
                (
                    "count by (kind, reason) (max by (kind, reason) (whisper_operator_unreadable))",
                    "{{kind}}: {{reason}}",
                ),
            ),
        ),
        Panel(
            "Left to other installations",
            "Namespaces in which this one writes nothing.",
            (
                (
                    "count by (installation) (max by (namespace, exported_namespace, installation) "
                    "(whisper_operator_left_to_others))",
                    "{{installation}}",
                ),
            ),
        ),
        Panel(
            "Memory",
            "Of each replica; the container's limit is 512Mi unless yours says otherwise.",
            (
                (
                    f"max by (namespace, pod) ({of_operators('process_resident_memory_bytes')})",
                    "{{pod}}",
                ),
            ),
            unit="bytes",
        ),
    ),
)

WORK = Row(
    "Work",
    (
        Panel(
            "Queue",
            "Of the leader. waiting goes back to 0 within seconds; failing are tried again, each later.",
            (
                (each("whisper_operator_workqueue_depth"), "waiting"),
                (each("whisper_operator_workqueue_active"), "with a worker"),
                (each("whisper_operator_workqueue_failing"), "failing"),
            ),
        ),
        Panel(
            "Seconds in the queue, and with a worker",
            "Work takes as long as the API server's answers do.",
            (
                (quantile(0.99, "queue_duration_seconds"), "waits, 99 %"),
                (quantile(0.5, "work_duration_seconds"), "work, half"),
                (quantile(0.99, "work_duration_seconds"), "work, 99 %"),
            ),
            unit="s",
        ),
        Panel(
            "Looks at endpoints",
            "error is a bug: the log has it.",
            ((f"sum by (result) (rate(whisper_operator_reconciles_total{RATE}))", "{{result}}"),),
            unit="ops",
        ),
        Panel(
            "Added and tried again",
            "To and by the queue.",
            (
                (f"sum(rate(whisper_operator_workqueue_adds_total{RATE}))", "added"),
                (f"sum(rate(whisper_operator_workqueue_retries_total{RATE}))", "tried again"),
            ),
            unit="ops",
        ),
        Panel(
            "Writes",
            "None while nothing changes. One kind that is written again and again: somebody else changes it back.",
            ((f"sum by (verb, kind) (rate(whisper_operator_writes_total{RATE}))", "{{verb}} {{kind}}"),),
            unit="ops",
        ),
        Panel(
            "Requests that failed",
            "refused: a right or a rule of the API server's. unavailable: it is down, slow or throttles.",
            ((f"sum by (reason) (rate(whisper_operator_request_errors_total{RATE}))", "{{reason}}"),),
            unit="ops",
        ),
        Panel(
            "CPU",
            "Of each replica, in cores.",
            (
                (
                    f"max by (namespace, pod) ({of_operators(f'rate(process_cpu_seconds_total{RATE})')})",
                    "{{pod}}",
                ),
            ),
        ),
    ),
)


def operator() -> Json:
    return dashboard(
        "whisper-operator",
        "What endpoints lack, and how the operator does. What to do: docs/monitoring.md.",
        (ENDPOINTS, HEALTH, WORK),
        (),
    )
