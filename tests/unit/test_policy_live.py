"""A policy that changes while the operator runs."""

import logging
import os
from pathlib import Path

import pytest
from whisper_operator.config import Settings
from whisper_operator.kube.metrics import REGISTRY
from whisper_operator.policy.live import LivePolicy

NONE = "preset: none\neverywhere: {hosts: []}"
SOME = "preset: none\neverywhere: {hosts: [a.example.com]}"


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
    assert not live.take(live.read())
    path.write_text(SOME)
    assert live.take(live.read())
    assert hosts(live) == ("a.example.com",)
    assert not live.take(live.read())


def test_another_wording_of_the_same_is_no_change(path: Path) -> None:
    live = LivePolicy(path, Settings())
    path.write_text(f"# As before.\n{NONE}\n")
    assert not live.take(live.read())


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
        assert not live.take(live.read())
    assert hosts(live) == ()
    assert valid() == 0
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert f"The policy {path} can't be used, the last good one holds on: " in line.getMessage()
    path.write_text(SOME)
    assert live.take(live.read())
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
    assert live.take(live.read())
    assert hosts(live) == ("a.example.com",)


@pytest.mark.parametrize("bad", ["everywhere: {host: []}", "# preset: none", "preset: none\n? [", None])
def test_at_the_start_there_is_no_good_one_and_nothing_is_changed_until_there_is(
    bad: str | None, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Rather than no operator at all: endpoints say so, and what runs stays."""
    if bad is None:
        path.unlink()
    else:
        path.write_text(bad)
    live = LivePolicy(path, Settings())
    assert live.wrong
    live.tell()
    assert valid() == 0
    assert live.current.of("asr").is_closed
    assert f"The policy {path} can't be used, no endpoint is changed: " in caplog.text
    path.write_text(SOME)
    assert live.take(live.read())
    assert (live.wrong, valid(), hosts(live)) == ("", 1, ("a.example.com",))


def test_another_wording_is_not_told_as_a_change(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    live = LivePolicy(path, Settings())
    path.write_text(f"# As before.\n{NONE}\n")
    with caplog.at_level(logging.INFO):
        assert not live.take(live.read())
    assert caplog.messages[-1].endswith("says what it did")
