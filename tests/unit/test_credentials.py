"""Which API server, and which namespace of one's own, as kubeconfigs have it."""

import os
from pathlib import Path

import pytest
from whisper_operator.kube.credentials import Choice, connect, namespace
from whisper_operator.kube.errors import NoCluster

CONTEXTS = """
contexts:
- {name: here, context: {cluster: c, user: u, namespace: asr}}
- {name: there, context: {cluster: c, user: u}}
"""


def test_a_context_is_found_in_any_of_several_files(tmp_path: Path) -> None:
    """Some of which have none, as those that a tool keeps its credentials in; some are not there."""
    (tmp_path / "users").write_text("contexts:\nusers: []\n")
    (tmp_path / "clusters").write_text("clusters: []\n")
    (tmp_path / "contexts").write_text(CONTEXTS)
    files = os.pathsep.join(str(tmp_path / each) for each in ("gone", "users", "clusters", "contexts"))
    assert namespace(Choice(files, "here")) == "asr"
    assert namespace(Choice(files, "there"), "default") == "default"


@pytest.mark.parametrize("context", [None, "here"])
async def test_that_there_is_no_kubeconfig_is_said_once(
    context: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    choice = Choice(str(tmp_path / "gone"), context)
    with pytest.raises(NoCluster, match=f"there is no {tmp_path}/gone; let KUBECONFIG name"):
        namespace(choice)
    with pytest.raises(NoCluster, match=f"there is no {tmp_path}/gone; let KUBECONFIG name"):
        async with connect(choice=choice):
            pass
    assert caplog.records == []
