"""The rights of another installation beside the one that deploy/ makes."""

from pathlib import Path

import yaml

from devcluster import Cluster

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
SECOND = "second"
"""Its namespace, which has to be there."""
SECOND_USER = f"system:serviceaccount:{SECOND}:whisper-operator"


def install_second(cluster: Cluster, *namespaces: str) -> None:
    """The rights of another installation, in these namespaces or everywhere."""
    rights = list(yaml.safe_load_all((DEPLOY / "base" / "rbac.yaml").read_text()))
    chosen = [each for each in rights if each["kind"] in ("ServiceAccount", "Role", "RoleBinding")]
    for each in chosen:
        each["metadata"]["namespace"] = SECOND
    if namespaces:
        text = (DEPLOY / "overlays" / "namespaced" / "rights.yaml").read_text()
        for namespace in namespaces:
            of_one = list(yaml.safe_load_all(text))
            for each in of_one:
                each["metadata"] |= {"namespace": namespace, "name": f"second-{each['metadata']['name']}"}
                if each["kind"] == "RoleBinding" and each["roleRef"]["kind"] == "Role":
                    each["roleRef"]["name"] = f"second-{each['roleRef']['name']}"
            chosen += of_one
    else:
        (everywhere,) = (each for each in rights if each["kind"] == "ClusterRoleBinding")
        chosen.append({**everywhere, "metadata": {"name": SECOND}})
    for each in chosen:
        for subject in each.get("subjects", []):
            subject["namespace"] = SECOND
    cluster.apply(*chosen)
