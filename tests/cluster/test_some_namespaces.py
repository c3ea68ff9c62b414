"""An installation for some namespaces has no rights in others, and knows what it can't see."""

from pathlib import Path

import pytest
import yaml

from devcluster import Cluster
from devcluster.installation import USER, Operator, install
from tests.cluster.support import children, condition, endpoint, live, until, wait_for_condition, writes

OVERLAY = Path(__file__).resolve().parents[2] / "deploy" / "overlays" / "namespaced"
MINE, OTHER = "asr", "elsewhere"


@pytest.mark.timeout(600)
def test_endpoints_elsewhere_are_none_of_its_business() -> None:
    settings = yaml.safe_load((OVERLAY / "config.yaml").read_text())
    assert settings["namespaces"] == [MINE]
    with Cluster.start() as cluster:
        cluster.kubectl("create", "namespace", MINE)
        cluster.kubectl("create", "namespace", OTHER)
        install(cluster, "overlays/namespaced")
        with Operator(cluster, settings) as operator:
            operator.wait_until_working()
            # The older one elsewhere has the host; who sees the whole cluster would leave the younger one alone.
            cluster.apply(endpoint("whisper", OTHER, host="whisper.example.com"))
            cluster.apply(endpoint("whisper", MINE, host="whisper.example.com"))
            resource = wait_for_condition(cluster, MINE, "whisper")
            message = condition(resource, "Ready")["message"]
            assert f"sees no namespaces but {MINE}" in message

            cluster.kubectl("delete", "service", "whisper", "-n", MINE)
            until(lambda: "Service/whisper" in children(cluster, MINE), "the Service back")
            assert live(cluster, OTHER, "whisper")["status"] == {
                "observedGeneration": -1
            }  # the CRD's default
            assert children(cluster, OTHER) == {}

            cluster.kubectl("delete", "whisperendpoint", "whisper", "-n", MINE)
            until(lambda: children(cluster, MINE) == {}, "all that was its is gone")
            assert {event.namespace for event in writes(cluster)} == {MINE}
            refused = [event for event in cluster.audit(user=USER) if event.code == 403]
            assert refused == []
            assert operator.complaints() == []
