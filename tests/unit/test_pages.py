"""What pages tell readers to type and to apply: commands that there are, files that are there, and endpoints that can be made."""

import subprocess
from pathlib import Path

import pytest
import yaml
from whisper_operator.__main__ import main

from tests.unit.commands import PAGES, ROOT, Block, beside, blocks, commands, objects

PROGRAMS = {
    *("kubectl", "helm", "kustomize", "gcloud", "docker", "make", "git", "python3", "pip", "pipx", "npm", "node"),
    *("argocd", "flux", "promtool", "cosign", "sha256sum"),
    *("curl", "jq", "openssl", "base64", "cat", "cd", "cp", "echo", "export", "for", "while", "done", "mkdir", "sed", "tar"),
    *("whisper-operator", "whisper-server", "scripts/environment", "scripts/docker-engine", "scripts/images", "read"),
    *("grep", "["),
    *(".venv/bin/python", ".venv/bin/pytest", ".venv/bin/whisper-operator", ".venv-server/bin/pytest", ".venv-server/bin/python"),
}  # fmt: skip
"""What a page may have its reader run; a word that is not here is a slip, or belongs here."""

EXERCISED = {
    "kubectl annotate": "test_upgrades.py",
    "kubectl api-resources": "",
    "kubectl apply": "test_lifecycle.py",
    "kubectl cordon": "",
    "kubectl create": "test_guides.py",
    "kubectl delete": "test_uninstalled.py",
    "kubectl describe": "",
    "kubectl edit": "",
    "kubectl explain": "test_lifecycle.py",
    "kubectl get": "test_lifecycle.py",
    "kubectl kustomize": "test_uninstalled.py",
    "kubectl label": "test_crd_upgrade.py",
    "kubectl logs": "",
    "kubectl patch": "test_guides.py",
    "kubectl port-forward": "",
    "kubectl replace": "test_crd_upgrade.py",
    "kubectl rollout": "",
    "kubectl scale": "test_crd_upgrade.py",
    "kubectl wait": "test_guides.py",
    "kubectl whisper": "test_kubectl_whisper.py",
    "make chart": "",
    "make clean": "",
    "make cluster": "",
    "make demo": "test_demo.py",
    "make docs": "",
    "make e2e": "",
    "make gpu": "test_gpu_benchmark.py",
    "make images": "test_images.py",
    "make lint": "",
    "make release": "",
    "make server": "",
    "make ship": "",
    "make test": "",
    "make unit": "",
    "whisper-operator doctor": "test_doctor.py",
    "whisper-operator render": "test_render_on_a_cluster.py",
    "whisper-operator run": "test_images.py",
}
"""Where what a page has its reader do is done by a test. Empty: nowhere, as it only reads, or takes what no test has, such as
containers that run; that a page may have it is decided here, one by one."""

SHELL_BLOCKS = [each for page in PAGES for each in (*blocks(page), *beside(page)) if list(commands(each))]
YAML_BLOCKS = [each for page in PAGES for each in blocks(page) if each.language in ("yaml", "yml")]


def test_there_is_something_to_check() -> None:
    assert len(SHELL_BLOCKS) > 15
    assert len(YAML_BLOCKS) > 5


@pytest.mark.parametrize("block", SHELL_BLOCKS, ids=str)
def test_commands_are_known(block: Block) -> None:
    assert [words[0] for words in commands(block) if words[0] not in PROGRAMS] == []


@pytest.mark.parametrize("block", SHELL_BLOCKS, ids=str)
def test_make_and_the_operator_know_what_they_are_asked_for(block: Block) -> None:
    targets = (ROOT / "Makefile").read_text()
    for words in commands(block):
        if words[0] == "make":
            for target in words[1:]:
                assert "=" in target or target.startswith("-") or f"\n{target}:" in targets, words
        if words[0].endswith("whisper-operator") and words[1:]:
            with pytest.raises(SystemExit) as ended:
                main([words[1], "--help"])
            assert ended.value.code == 0, words


@pytest.mark.parametrize("block", SHELL_BLOCKS, ids=str)
def test_files_of_the_repository_are_there(block: Block) -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    for words in commands(block):
        for word in words:
            path = word.partition("@")[2] or word
            first = path.partition("/")
            if first[1] and first[0] in folders and not {"mine", "MINE"} & set(path.split("/")):
                assert (ROOT / path).exists(), f"{path} in {' '.join(words)}"


@pytest.mark.parametrize("block", YAML_BLOCKS, ids=str)
def test_every_endpoint_can_be_made(block: Block, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    endpoints = [each for each in objects(block) if each["kind"] == "WhisperEndpoint"]
    if not endpoints:
        return
    config, file = tmp_path / "config.yaml", tmp_path / "endpoints.yaml"
    kinds = {each["spec"].get("accelerator", {}).get("type") for each in endpoints} - {None}
    own: dict[str, object] = {
        name: {} for name in kinds if not name.startswith("nvidia-")
    }  # an installation names these
    server = {"repository": "registry.example.com/whisper-server", "version": "1"}
    config.write_text(yaml.safe_dump({"server": server, "accelerators": own}))
    file.write_text(yaml.safe_dump_all(endpoints))
    assert main(["render", "-f", str(file), "--config", str(config)]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("block", SHELL_BLOCKS, ids=str)
def test_commands_are_exercised(block: Block) -> None:
    asked = (
        f"{words[0]} {each}"
        for words in commands(block)
        if words[0] in ("kubectl", "make", "whisper-operator")
        for each in words[1:2]
        if not each.startswith("-") and each != "whisper"
    )
    unknown = [each for each in asked if each not in EXERCISED]
    assert unknown == [], "name the test that does it in EXERCISED"


def test_what_exercises_them_is_there() -> None:
    names = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    for command, test in EXERCISED.items():
        if test:
            verb = command.split()[1]
            assert verb in names[test] or test == "test_guides.py", command
    guides = "".join(path.read_text() for path in (ROOT / "docs" / "guides").glob("*.md"))
    for command, test in EXERCISED.items():
        assert test != "test_guides.py" or f"\n{command} " in guides, command


def test_pages_are_in_git() -> None:
    """A page that is only here would be checked, and published nowhere."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {str(page.relative_to(ROOT)) for page in PAGES} <= set(listed.stdout.split("\n"))
