"""A policy that changes while the operator runs."""

import logging
import os
from pathlib import Path

import pytest
from whisper_operator.config import ConfigError, Settings
from whisper_operator.kube.metrics import REGISTRY
from whisper_operator.policy.live import LivePolicy

NONE = "everywhere: {hosts: []}"
SOME = "everywhere: {hosts: [a.example.com]}"


def hosts(live: LivePolicy) -> tuple[str, ...]:
    return live.current.of("asr").lists["hosts"]


def valid() -> float | None:
    return REGISTRY.get_sample_value("whisper_operator_policy_valid")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "policy.yaml"
    found.write_text(NONE)
    return found


def test_a_change_is_taken_up_and_told_once(path: Path) -> None:
    live = LivePolicy(path, Settings())
    assert not live.look()
    path.write_text(SOME)
    assert live.look()
    assert hosts(live) == ("a.example.com",)
    assert not live.look()


def test_another_wording_of_the_same_is_no_change(path: Path) -> None:
    live = LivePolicy(path, Settings())
    path.write_text(f"# As before.\n{NONE}\n")
    assert not live.look()


@pytest.mark.parametrize("bad", ["everywhere: {host: []}", "a: [", "\udcff", "\n", None])
def test_a_bad_one_keeps_the_last_good_one_and_is_told_once(
    bad: str | None, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live = LivePolicy(path, Settings())
    assert valid() == 1
    if bad is None:
        path.unlink()
    else:
        path.write_bytes(os.fsencode(bad))
    for _ in range(3):
        assert not live.look()
    assert hosts(live) == ()
    assert valid() == 0
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert f"The policy {path} can't be used, the last good one holds on: " in line.getMessage()
    path.write_text(SOME)
    assert live.look()
    assert valid() == 1


def test_a_config_map_is_swapped_under_the_file(tmp_path: Path) -> None:
    """As the kubelet does it: another folder, and a link that is renamed."""
    for name, text in (("one", NONE), ("two", SOME)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.yaml").write_text(text)
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "policy.yaml").symlink_to("data/policy.yaml")
    live = LivePolicy(tmp_path / "policy.yaml", Settings())
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(tmp_path / "data")
    assert live.look()
    assert hosts(live) == ("a.example.com",)


def test_at_the_start_there_is_no_good_one_to_keep(path: Path) -> None:
    path.write_text("everywhere: {host: []}")
    with pytest.raises(ConfigError, match=r"cannot use the policy .*: everywhere: unknown field 'host'"):
        LivePolicy(path, Settings())
    with pytest.raises(ConfigError, match="No such file"):
        LivePolicy(path.with_name("absent"), Settings())
