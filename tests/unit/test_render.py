"""What `render` reads, and the stage that it prints."""

import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from whisper_operator.__main__ import main
from whisper_operator.claims import asked

ROOT = Path(__file__).resolve().parents[2]
VERSION = "whisper-operator.io/v1alpha1"


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "settings"
    path.write_text(
        "server: {repository: registry.example.com/whisper-server, version: 0.1.0}\n"
        "accelerators: {rtx-4090: {nodeSelector: {gpu: rtx-4090}}}\n"
    )
    return str(path)


def endpoint(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": VERSION, "kind": "WhisperEndpoint", "metadata": {"name": name}, "spec": spec}


def printed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(capsys.readouterr().out))


def test_a_folder_is_read_file_by_file(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "endpoints"
    folder.mkdir()
    (folder / "b.yml").write_text(yaml.safe_dump(endpoint("b")))
    (folder / "a.yaml").write_text(yaml.safe_dump_all([endpoint("a1"), endpoint("a2")]))
    (folder / "kustomization.yaml").write_text("resources: [a.yaml]\n")
    (folder / "notes.txt").write_text("kind: [")
    assert main(["render", "-f", str(folder), "--config", config]) == 0
    names = [each["metadata"]["name"] for each in printed(capsys) if each["kind"] == "Deployment"]
    assert names == ["a1", "a2", "b"]


def test_the_examples_render(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "-f", str(ROOT / "examples"), "--config", config]) == 0
    assert len(printed(capsys)) > 20


def test_standard_input_and_a_namespace(
    config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(yaml.safe_dump(endpoint("whisper"))))
    assert main(["render", "-f", "-", "-n", "asr", "--config", config]) == 0
    assert {each["metadata"]["namespace"] for each in printed(capsys)} == {"asr"}


@pytest.mark.parametrize("tls", [{}, {"tls": {"secretName": "s"}}, {"tls": {"preSharedCert": "p"}}])
def test_the_redirect_belongs_to_the_final_stage(
    tls: dict[str, Any], config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "endpoint.yaml"
    spec = {
        "host": "a.example.com",
        "additionalHosts": ["b.example.com"],
        "ingress": {"httpsRedirect": True, **tls},
    }
    path.write_text(yaml.safe_dump(endpoint("whisper", **spec)))
    for arguments, redirects in ([], False), (["--settled"], True):
        assert main(["render", "-f", str(path), "--config", config, *arguments]) == 0
        (front,) = [each for each in printed(capsys) if each["kind"] == "FrontendConfig"]
        assert front["spec"]["redirectToHttps"] == {"enabled": redirects}


def test_kinds_that_not_every_cluster_has(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["render", "-f", str(ROOT / "examples" / "minimal.yaml"), "--config", config]
    assert main(arguments) == 0
    assert "PodMonitoring" not in {each["kind"] for each in printed(capsys)}
    assert main([*arguments, "--with", "PodMonitoring"]) == 0
    assert "PodMonitoring" in {each["kind"] for each in printed(capsys)}
    with pytest.raises(SystemExit) as error:
        main([*arguments, "--with", "Pod"])
    assert error.value.code == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("kind: Service\n---\n[1]\n", "document 2 is no mapping but list"),
        ("kind: List\nitems: [1]\n", "document 1: items[0] is no mapping but int"),
        ("kind: List\nitems: 5\n", "document 1: items is no list but int"),
        ("kind: List\nitems: {a: 1}\n", "document 1: items is no list but dict"),
        ("a: 1\na: [", "line 2, column 5"),
    ],
)
def test_unreadable_input_names_file_and_place(
    content: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(content)
    assert main(["render", "-f", str(path)]) == 2
    complaint = capsys.readouterr().err
    assert str(path) in complaint
    assert words in complaint


def test_an_empty_folder_is_unreadable_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "-f", str(tmp_path)]) == 2
    assert "there is no WhisperEndpoint in it" in capsys.readouterr().err


POLICY = """
preset: multi-tenant
everywhere: {hosts: ["*.{namespace}.example.com"]}
namespaces: {shop: {hosts: [shop.example.com]}}
ceilings: {gpus: 2}
"""


def test_what_a_policy_would_refuse_is_said_for_a_pipeline(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, file = tmp_path / "policy.yaml", tmp_path / "endpoints.yaml"
    policy.write_text(POLICY)
    public = endpoint("public", host="shop.example.com", auth={"secretName": "whisper-keys"})
    file.write_text(yaml.safe_dump_all([endpoint("own", image="evil.org/x"), public, endpoint("fine")]))
    arguments = ["render", "-f", str(file), "--config", config, "--policy", str(policy)]
    assert main([*arguments, "-n", "shop"]) == 1
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith(
        f"{file}: document 1: WhisperEndpoint own: PolicyViolation: The installation's policy does not allow this in namespace "
        "shop: spec.image 'evil.org/x' (no registries are allowed). "
    )
    names = {
        each["metadata"]["name"] for each in yaml.safe_load_all(said.out) if each["kind"] == "Deployment"
    }
    assert names == {"public", "fine"}
    assert main([*arguments, "-n", "asr"]) == 1
    assert "spec.host 'shop.example.com' (allowed hosts: *.asr.example.com)" in capsys.readouterr().err


def test_what_the_files_ask_for_together_is_held_against_the_ceilings(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, file = tmp_path / "policy.yaml", tmp_path / "endpoints.yaml"
    policy.write_text(POLICY)
    file.write_text(yaml.safe_dump_all([endpoint("a"), endpoint("b", replicas=2), endpoint("c")]))
    assert main(["render", "-f", str(file), "--config", config, "--policy", str(policy)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "WhisperEndpoint b: CeilingReached: The installation's policy leaves no room for this now: gpus 2"
        in line
    )


def test_two_files_with_one_host_are_told(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "c"):
        host = "one.example.com" if name != "c" else "two.example.com"
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(endpoint(name, host=host)))
    assert main(["render", "-f", str(tmp_path), "--config", config]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "WhisperEndpoint b: HostConflict: WhisperEndpoint a in namespace default has the host one.example.com"
        in line
    )


def test_two_files_with_one_static_address_are_told(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        spec = {"host": f"{name}.example.com", "staticIPName": "one"}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(endpoint(name, **spec)))
    files = [str(tmp_path / "b.yaml"), str(tmp_path / "a.yaml")]
    assert main(["render", "-f", files[0], "-f", files[1], "--config", config]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "a.yaml: document 1: WhisperEndpoint a: StaticIPConflict: WhisperEndpoint b in namespace" in line


def test_all_examples_may_be_applied_together() -> None:
    found: dict[tuple[str, str], str] = {}
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        for each in yaml.safe_load_all(path.read_text()):
            if each["kind"] != "WhisperEndpoint":
                continue
            for claim in {("name", each["metadata"]["name"]), *asked(each)}:
                assert found.setdefault(claim, path.name) == path.name, f"{claim} is in two files"


@pytest.mark.parametrize("namespace", ["", 5, ["a"], "A_b", {"a": 1}])
def test_a_namespace_that_is_none_is_told(
    namespace: object, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, policy = tmp_path / "whisper.yaml", tmp_path / "policy"
    body = endpoint("whisper")
    body["metadata"]["namespace"] = namespace
    file.write_text(yaml.safe_dump(body))
    policy.write_text("preset: multi-tenant")
    assert main(["render", "-f", str(file), "--config", config, "--policy", str(policy)]) == 1
    assert f"metadata.namespace {namespace!r} is not the name of a namespace" in capsys.readouterr().err


def test_all_that_is_allowed_is_printed_as_without_a_policy(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, file = tmp_path / "policy.yaml", tmp_path / "endpoints.yaml"
    policy.write_text("preset: multi-tenant\n")
    file.write_text(yaml.safe_dump(endpoint("whisper", model="turbo")))
    assert main(["render", "-f", str(file), "--config", config, "--policy", str(policy)]) == 0
    under = printed(capsys)
    assert main(["render", "-f", str(file), "--config", config]) == 0
    assert under == printed(capsys)


def test_a_policy_that_makes_no_sense_is_unreadable_input(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, file = tmp_path / "policy.yaml", tmp_path / "endpoints.yaml"
    policy.write_text("preset: none\neverywhere: {host: []}\n")
    file.write_text(yaml.safe_dump(endpoint("whisper")))
    monkeypatch.setenv("WHISPER_OPERATOR_POLICY", str(policy))
    assert main(["render", "-f", str(file), "--config", config]) == 2
    assert capsys.readouterr().err == (
        f"whisper-operator: cannot use the policy {policy}: everywhere: unknown field 'host': did you mean hosts?\n"
    )
