"""What doctor says of an installation: each check with something wrong, and with nothing."""

import ast
import json
import re
from typing import Any

import pytest
from whisper_operator.doctor.checks import configuration
from whisper_operator.doctor.facts import File
from whisper_operator.doctor.finding import Gap
from whisper_operator.doctor.rights import needed

from tests.unit.diagnosing import (
    FORBIDDEN,
    condition,
    deployment,
    facts,
    found,
    installation,
    judged,
    raw,
    well,
)
from tests.unit.making import Body
from tests.unit.test_deploy import DEPLOY, documents


def test_nothing_is_wrong() -> None:
    report = judged(facts())
    assert report.findings == ()
    assert report.errors == 0
    assert [each.words for each in report.well] == [
        "CustomResourceDefinition whisperendpoints.whisper-operator.io is served, as this version of the operator has it",
        "Deployment whisper-operator/whisper-operator runs x:1",
        "ServiceAccount whisper-operator/whisper-operator has the rights that the operator needs",
        "config.yaml of Deployment whisper-operator/whisper-operator makes sense",
        "No two installations look after the same namespaces",
    ]


def test_an_operator_that_is_not_there() -> None:
    assert found(facts(installations=()))["OperatorMissing"].severity == "error"
    unsure = found(facts(installations=(), everywhere=False))["OperatorMissing"]
    assert unsure.severity == "warning"
    assert "you may not look into all others" in unsure.problem
    assert "Operator: not checked" in found(facts(installations=FORBIDDEN))["NotPermitted"].problem


def pod(state: Body, **status: Any) -> Body:
    container = {"name": "operator", "ready": False, "restartCount": 3, **state}
    spec = {"containers": [{"name": "operator", "image": "r/whisper:1"}]}
    return raw(
        "operator-1", "whisper-operator", spec=spec, status={"containerStatuses": [container], **status}
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            pod({"state": {"waiting": {"reason": "ImagePullBackOff"}}}),
            "Pod operator-1: can't pull the image r/whisper:1.",
        ),
        (
            pod(
                {
                    "lastState": {
                        "terminated": {"exitCode": 2, "message": "whisper-operator: sever is not a setting"}
                    }
                }
            ),
            "Pod operator-1: ended with exit status 2: whisper-operator: sever is not a setting.",
        ),
        (
            pod({"lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}),
            "Pod operator-1: was killed for using too much memory.",
        ),
        (None, "It has no pods."),
    ],
)
def test_an_operator_that_does_not_run_says_why(given: Body | None, words: str) -> None:
    down = installation(deployment=deployment(available=0), pods=(given,) if given else ())
    finding = found(facts(installations=(down,)))["OperatorUnavailable"]
    assert finding.problem == f"The operator does not run: no change is carried out. {words}"
    assert finding.command == (
        "kubectl describe pods -n whisper-operator -l app.kubernetes.io/name=whisper-operator"
    )


def test_pods_that_are_refused_are_told_of_without_the_right_to_see_pods() -> None:
    refused = deployment(available=0)
    refused["status"]["conditions"] = [condition("ReplicaFailure", "True", "FailedCreate", "exceeded quota")]
    for pods in ((), FORBIDDEN):
        finding = found(facts(installations=(installation(deployment=refused, pods=pods),)))
        assert "Its pods are refused: exceeded quota" in finding["OperatorUnavailable"].problem


def test_an_operator_that_could_not_start_is_quoted() -> None:
    crashed = pod({"lastState": {"terminated": {"exitCode": 2}}})
    log = '{"message": "x"}\nwhisper-operator: sever is not a setting\n'
    down = installation(deployment=deployment(available=0), pods=(crashed,), log=log)
    problem = found(facts(installations=(down,)))["OperatorUnavailable"].problem
    assert problem.endswith("ended with exit status 2: whisper-operator: sever is not a setting.")


def test_an_operator_that_is_scaled_to_nothing_or_stuck_in_a_change() -> None:
    off = installation(deployment=deployment(available=0, replicas=0))
    assert "scaled to nothing" in found(facts(installations=(off,)))["OperatorUnavailable"].problem
    stuck = deployment()
    stuck["status"]["conditions"] = [condition("Progressing", "False", "ProgressDeadlineExceeded")]
    finding = found(facts(installations=(installation(deployment=stuck),)))["OperatorUnavailable"]
    assert (finding.severity, "its last change is stuck" in finding.problem) == ("warning", True)


def test_an_operator_of_another_version() -> None:
    for image, is_other in (("r/whisper:9.9.9-operator", True), ("r/whisper:latest", False)):
        given = facts(installations=(installation(deployment=deployment(image=image)),))
        assert ("OperatorVersionDiffers" in found(given)) == is_other


def test_complaints_of_the_operators_log() -> None:
    def line(message: str, level: str = "WARNING", time: str = "2026-03-01T11:50:00Z") -> str:
        return json.dumps({"message": message, "level": level, "time": time})

    lines = [
        '{"cut',
        "[]",
        line("all is fine", "INFO"),
        *(line(each) for each in ("one", "two", "one", "three", "four\x1b[2J\nmore")),
        line("long ago", time="2026-03-01T09:00:00Z"),
    ]
    report = judged(facts(installations=(installation(log="\n".join(lines)),)))
    said = [each.problem for each in report.findings]
    assert [each.code for each in report.findings] == ["OperatorComplains"] * 3
    assert [each.partition(": ")[2] for each in said] == [
        "one",
        "three",
        "four\N{REPLACEMENT CHARACTER}[2J more",
    ]  # printing cleans it
    assert {each.severity for each in report.findings} == {"warning"}
    quiet = facts(installations=(installation(log=line("fine", "INFO")),))
    assert "has no complaints of the last hour" in well(quiet)
    unread = found(facts(installations=(installation(log=Gap("get pods/log", "")),)))["NotPermitted"]
    assert unread.problem == "Operator's log: not checked: needs the right to get pods/log"


def test_rights_that_the_operator_lacks() -> None:
    lacking = installation(lacking=("list, watch pods", "patch deployments/scale.apps"))
    finding = found(facts(installations=(lacking,)))["OperatorLacksRights"]
    assert finding.problem.startswith("The operator may not list, watch pods; patch deployments/scale.apps.")
    unknown = installation(lacking=Gap("create subjectaccessreviews.authorization.k8s.io", ""))
    assert "Operator's rights: not checked" in found(facts(installations=(unknown,)))["NotPermitted"].problem


Right = tuple[str, str, str, str]
"""Verb, group, resource and name."""


def granted(role: Body) -> set[Right]:
    return {
        (verb, group, resource, name)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
    }


def test_the_rights_that_are_asked_about_are_those_that_are_installed() -> None:
    def asked(*namespaces: str) -> set[tuple[Right, str | None]]:
        return {
            ((each.verb, each.kind.group, each.resource, each.name), where)
            for each, where in needed("home", namespaces)
        }

    base = documents("base/rbac.yaml")
    everywhere, at_home = granted(base["ClusterRole"]), granted(base["Role"])
    assert asked() == {(each, None) for each in everywhere} | {(each, "home") for each in at_home}
    claim = granted(documents("overlays/namespaced/rights.yaml")["Role"])
    those = {each for each, where in asked("asr") if where == "asr"}
    in_cluster_only = {
        each for each in everywhere if each[2] in ("customresourcedefinitions", "subjectaccessreviews")
    }
    assert those == everywhere - in_cluster_only - {("list", "coordination.k8s.io", "leases", "")} | claim


def test_the_files_of_the_installed_deployment_are_found() -> None:
    given = documents("base/operator.yaml")["Deployment"]
    assert configuration.named(given, "config") == "config.yaml"
    assert configuration.named(given, "policy") == "policy.yaml"
    assert configuration.named(given, "nothing") is None
    assert configuration.config_maps(given) == ["whisper-operator", "whisper-operator-policy"]
    assert configuration.named(deployment(), "policy") == "policy.yaml", "given with ="
    for name in ("config", "policy"):
        text = (DEPLOY / "base" / f"{name}.yaml").read_text()
        both = {"config": None, "policy": None, name: text}
        assert understood(both["config"], both["policy"]) == {}


def understood(config: str | None, policy: str | None) -> dict[str, str]:
    return configuration.understood(
        File("config.yaml", "c", config) if config is not None else None,
        File("policy.yaml", "p", policy) if policy is not None else None,
    )[2]


@pytest.mark.parametrize(
    ("config", "policy", "file", "words"),
    [
        ("sever: {}", None, "config.yaml", "sever is not a setting"),
        ("a: [", None, "config.yaml", "while parsing"),
        ("- 1", None, "config.yaml", "must be a mapping"),
        ("[" * 3000, None, "config.yaml", "recursion"),
        (None, "ceiling: {}", "policy.yaml", "did you mean ceilings?"),
        (None, "everywhere: {hosts: 3}", "policy.yaml", "everywhere.hosts"),
        (None, "a: [", "policy.yaml", "while parsing"),
        (None, "? [a, b]\n: c", "policy.yaml", "unhashable"),
        ("", "defaults: 1", "policy.yaml", "unknown field 'defaults'"),
    ],
)
def test_files_that_make_no_sense(config: str | None, policy: str | None, file: str, words: str) -> None:
    faults = understood(config, policy)
    assert list(faults) == [file]
    assert words in faults[file]
    code = "ConfigInvalid" if file == "config.yaml" else "PolicyInvalid"
    given = installation(
        config=File("config.yaml", "c", config) if config is not None else None,
        policy_file=File("policy.yaml", "p", policy) if policy is not None else None,
        faults=faults,
    )
    finding = found(facts(installations=(given,)))[code]
    assert words in finding.problem
    effect = {
        "ConfigInvalid": "starts now ends, one that runs goes by what it read when it started: ",
        "PolicyInvalid": "starts now changes no endpoint, one that runs goes by the last policy that made sense: ",
    }
    assert effect[code] in finding.problem
    name = "c" if file == "config.yaml" else "p"
    assert finding.command == f"kubectl edit configmap -n whisper-operator {name}"


def test_a_file_that_is_not_there_or_can_t_be_read() -> None:
    gone = installation(config=File("config.yaml", "", None))
    assert (
        "reads config.yaml, which none of the ConfigMaps has"
        in found(facts(installations=(gone,)))["ConfigMissing"].problem
    )
    unread = installation(config=File("config.yaml", "", Gap("get configmaps", "")), settings=None)
    assert found(facts(installations=(unread,)))["NotPermitted"].problem == (
        "config.yaml: not checked: needs the right to get configmaps"
    )


def test_the_codes_of_the_page_are_those_that_are_used() -> None:
    page = (DEPLOY.parent / "docs" / "doctor.md").read_text()
    documented = re.findall(r"^\| ([A-Z]\w+) \| \S.*\. \|$", page, re.M)
    folder = DEPLOY.parent / "operator" / "whisper_operator" / "doctor"
    trees = [ast.parse(path.read_text()) for path in folder.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    words = {node.value for node in nodes if isinstance(node, ast.Constant)}
    assert [code for code in documented if code not in words] == []
    findings = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "Finding"]
    codes = {node.args[1].value for node in findings if isinstance(node.args[1], ast.Constant)}
    assert len(codes) > 20
    assert codes - set(documented) == set()
