"""What pods may reach is the installation's affair first, and an endpoint's as far as it lets them."""

from typing import Any

import pytest

from devcluster import Cluster
from devcluster.installation import Operator
from tests.cluster.support import children, condition, endpoint, patch, until, wait_for_condition

AGENT = [{"namespace": "observability", "ports": [{"port": 4317}]}]
MESH = [{"namespace": "istio-system", "ports": [{"port": 15012}]}]


def ways_out(cluster: Cluster, namespace: str, name: str = "whisper") -> list[str] | None:
    """The namespaces that pods may reach; None without a policy."""
    policy = children(cluster, namespace).get(f"NetworkPolicy/{name}")
    return None if policy is None else _namespaces(policy)


def _namespaces(policy: dict[str, Any]) -> list[str]:
    return [
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for rule in policy["spec"]["egress"]
        for peer in rule.get("to", [])
        if "namespaceSelector" in peer
    ]


@pytest.mark.timeout(300)
def test_ways_out_are_opened_and_closed_and_policies_come_and_go(installed: Cluster, namespace: str) -> None:
    installed.apply(endpoint("whisper", namespace, device="cpu"))
    with Operator(installed) as operator:
        operator.wait_until_working()
        until(lambda: ways_out(installed, namespace) == [], "a policy")
        patch(installed, namespace, networkPolicy={"egress": AGENT})
        until(lambda: ways_out(installed, namespace) == ["observability"], "the agent's way out")
        patch(installed, namespace, networkPolicy={"enabled": False})
        until(lambda: ways_out(installed, namespace) is None, "no policy")
        patch(installed, namespace, networkPolicy={"enabled": True})
        until(lambda: ways_out(installed, namespace) == ["observability"], "the policy again")

    # An installation with a mesh: its way out is everybody's, and no pod is started anew for it.
    before = children(installed, namespace)["Deployment/whisper"]["metadata"]["generation"]
    with Operator(installed, {"networkPolicy": {"egress": MESH}}) as operator:
        operator.wait_until_working()
        until(lambda: ways_out(installed, namespace) == ["istio-system", "observability"], "both ways out")
        assert children(installed, namespace)["Deployment/whisper"]["metadata"]["generation"] == before


@pytest.mark.timeout(300)
def test_an_installation_that_decides_alone_leaves_what_runs_and_says_so(
    installed: Cluster, namespace: str
) -> None:
    installed.apply(endpoint("whisper", namespace, device="cpu", networkPolicy={"egress": AGENT}))
    with Operator(installed) as operator:
        operator.wait_until_working()
        wait_for_condition(installed, namespace, "whisper")
    settings = {"networkPolicy": {"egress": MESH}}
    policy: dict[str, Any] = {"everywhere": {"egress": []}}
    with Operator(installed, settings, policy=policy) as operator:
        operator.wait_until_working()
        resource = wait_for_condition(installed, namespace, "whisper", "Stalled", "True", "PolicyViolation")
        assert "spec.networkPolicy.egress[0] (not within" in condition(resource, "Ready")["message"]
        assert condition(resource, "Available")["status"] == "True"
        assert ways_out(installed, namespace) == ["observability"]
        # It concerns nobody else, and goes away with its cause.
        installed.apply(endpoint("other", namespace, device="cpu"))
        wait_for_condition(installed, namespace, "other")
        assert ways_out(installed, namespace, "other") == ["istio-system"]
        patch(installed, namespace, networkPolicy=None)
        wait_for_condition(installed, namespace, "whisper")
        assert ways_out(installed, namespace) == ["istio-system"]


@pytest.mark.timeout(300)
def test_spot_nodes_that_the_installation_does_not_know_are_said(installed: Cluster, namespace: str) -> None:
    """With GKE's selector, the pods would wait for ever on a cluster of one's own."""
    table = {"rtx-4090": {"nodeSelector": {"gpu": "rtx-4090"}}}
    with Operator(installed, {"accelerators": table}) as operator:
        operator.wait_until_working()
        accelerator = {"type": "rtx-4090", "spot": True}
        installed.apply(endpoint("whisper", namespace, accelerator=accelerator))
        resource = wait_for_condition(installed, namespace, "whisper", "Stalled", "True", "SpotNotOffered")
        assert "leave spot out, or ask the platform team" in condition(resource, "Ready")["message"]
        patch(installed, namespace, accelerator={"spot": None})
        until(lambda: "Deployment/whisper" in children(installed, namespace), "the Deployment")
        pod = children(installed, namespace)["Deployment/whisper"]["spec"]["template"]["spec"]
        assert pod["nodeSelector"] == {"gpu": "rtx-4090"}
