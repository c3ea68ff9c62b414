"""ComputeAddress: has Config Connector reserve the static IP address.

It is nobody's child, and what it stands for stays when it is deleted: an address that DNS points at is never freed by the
deletion of an object.
"""

from whisper_operator.kube.kinds import COMPUTE_ADDRESS, DELETION_POLICY
from whisper_operator.manifests.manifest import Manifest, manifest
from whisper_operator.spec.endpoint import WhisperEndpoint


def of(endpoint: WhisperEndpoint) -> list[Manifest]:
    public = endpoint.public
    if public is None or not public.reserve_static_ip or public.static_ip_name is None:
        return []
    return [
        manifest(
            COMPUTE_ADDRESS,
            endpoint,
            {"location": "global"},
            name=public.static_ip_name,
            annotations={DELETION_POLICY: "abandon"},
        )
    ]
