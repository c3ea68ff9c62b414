"""GKE's cluster autoscaler, where it fails: nodes here are all there are, so it only says why it can make no more."""

from devcluster.gke.client import Object
from devcluster.gke.store import Key
from devcluster.gke.world import World
from devcluster.nodes import ZONES

COMPONENT = "cluster-autoscaler"
AGAIN_SECONDS = 10.0


async def sync(world: World, key: Key) -> float | None:
    """Complain of a pod that waits for a node, if the settings say what of."""
    pod = world.unscheduled.get(key)
    problem = world.settings(key[0]).scale_up
    if pod is None or not problem or not _unschedulable(pod):
        return None
    message = (
        f"Node scale up in zones {ZONES[0]} associated with this pod failed: {problem}. "
        "Pod is at risk of not being scheduled."
    )
    await world.recorder.report(pod, "Warning", "FailedScaleUp", message, COMPONENT)
    return AGAIN_SECONDS


def _unschedulable(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(each.get("reason") == "Unschedulable" for each in conditions)
