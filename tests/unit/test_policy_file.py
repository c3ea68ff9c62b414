"""The policy file: what is installed, what it may say, and what is said of one that makes no sense."""

import re
import time
from pathlib import Path

import pytest
import yaml
from whisper_operator.offline import crd_schema
from whisper_operator.policy import allowed
from whisper_operator.policy.allowed import LISTED
from whisper_operator.policy.amounts import asked
from whisper_operator.policy.ledger import Ledger
from whisper_operator.policy.reading import PolicyError, load
from whisper_operator.policy.rules import Policy

from tests.unit.commands import texts
from tests.unit.making import SETTINGS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "while parsing a flow node"),
        (
            "# preset: multi-tenant",
            "preset has to be said: multi-tenant, or none, by which everything is allowed",
        ),
        ("everywhere: {}", "preset has to be said"),
        ("ceilings: {cpu: .inf}", "line 2: .inf is no amount: write none for no ceiling"),
        ("ceilings: {cpu: .nan}", "line 2: .nan is no amount"),
        ("ceilings: {cpu: inf}", "'inf' can't stand there, but an amount such as 32 or 192Gi, or none"),
        (
            "everywhere: {server: {version: ''}}",
            "everywhere.server.version: '' can't stand there, but a tag's beginning",
        ),
        ("everywhere: {hosts: ['*..']}", "a host, or *.DOMAIN"),
        (
            "a: &a [1,2,3,4,5,6,7,8,9]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
            "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
            "g: [*f,*f,*f,*f,*f,*f,*f,*f,*f]",
            "it has more than 1000000 values, with all that its aliases (*) stand for",
        ),
        ("[]", "[] is not of type 'object'"),
        ("preset: strict", "preset: 'strict' is not one of ['none', 'multi-tenant']"),
        ("hosts: []", "unknown field 'hosts': use ceilings, everywhere, namespaces, preset"),
        ("everywhere: {host: []}", "everywhere: unknown field 'host': did you mean hosts?"),
        ("everywhere: {hosts: }", "everywhere.hosts: nothing stands there: write [] or {} if that is meant"),
        ("everywhere:", "everywhere: nothing stands there"),
        ("everywhere: {hosts: shop.example.com}", "'shop.example.com' is not of type 'array'"),
        ("everywhere: {hosts: [no]}", "everywhere.hosts[0]: False is no text: put it in quotes"),
        ("everywhere: {hosts: ['a*.example.com']}", "a host, or *.DOMAIN"),
        ("everywhere: {hosts: ['https://a.example.com']}", "a host, or *.DOMAIN"),
        ("everywhere: {staticIPNames: ['{namespace}-*']}", "one with {namespace} and no *"),
        ("everywhere: {secrets: ['a*b']}", "the beginning of one with * at its end"),
        ("everywhere: {secrets: ['{name}']}", "can't stand there"),
        ("everywhere: {registries: ['registry.example.com*']}", "a registry, or a path under one, without *"),
        ("everywhere: {publicWithoutAuth: never}", "'never' is not one of ['allow', 'warn', 'deny']"),
        ("everywhere: {egress: [{cidr: 10.0.0.0}]}", "egress[0].cidr must be a network such as 10.0.0.0/8"),
        ("everywhere: {egress: [{to: a}]}", "egress[0].to is not a setting"),
        ("ceilings: {gpu: 4}", "ceilings: unknown field 'gpu': did you mean gpus?"),
        ("ceilings: {gpus: many}", "ceilings.gpus: 'many' can't stand there, but a whole number, or none"),
        ("ceilings: {memory: 4GB}", "ceilings.memory: '4GB' can't stand there"),
        ("ceilings: {cpu: -1}", "-1 is less than the minimum of 0"),
        ("namespaces: {Asr: {}}", "namespaces: 'Asr' can't stand there, but the name of a namespace"),
        ("namespaces: {1: {hosts: []}}", "line 2: 1 is no text: put it in quotes"),
        ("namespaces: {no: {hosts: []}}", "line 2: False is no text: put it in quotes"),
        ("everywhere: {registries: [registry.example.com/]}", "without * and without / at its end"),
        ("&a {namespaces: *a}", "recursive"),
        pytest.param("[" * 100_000, "line 1: more than 100 levels stand in one another", id="lists in lists"),
        pytest.param("- " * 100_000, "more than 100 levels", id="items in items"),
        pytest.param("{a: " * 100_000, "more than 100 levels", id="mappings in mappings"),
        pytest.param("? " * 100_000, "more than 100 levels", id="keys in keys"),
        ("namespaces: {asr: {hosts: []}, asr: {}}", "'asr' stands twice in one mapping"),
        ("everywhere: {defaults: {host: a.example.com}}", "everywhere.defaults: unknown field 'host'"),
        (
            "namespaces: {asr: {defaults: {accelerator: {type: abacus}}}}",
            "namespaces.asr: spec.accelerator.type 'abacus' is not in this installation's table",
        ),
        (
            "everywhere: {defaults: {scheduling: {env: [{name: A}]}}}",
            "everywhere: defaults.scheduling.env[0]: 'value' is a required property",
        ),
        (
            "everywhere: {defaults: {resources: {requests: {memory: lots}}}}",
            "everywhere: defaults.resources.requests.memory: an amount of bytes is more than 0",
        ),
        (
            "everywhere: {defaults: {limits: {maxqueue: 4}}}",
            "everywhere: defaults.limits: unknown field 'maxqueue': did you mean maxQueue?",
        ),
        (
            "everywhere: {defaults: {ingress: {class: nginx}}}",
            "everywhere.defaults.ingress: unknown field 'class'",
        ),
    ],
)
def test_what_makes_no_sense_is_named(text: str, words: str) -> None:
    if text.startswith(("everywhere: {", "namespaces: {", "ceilings: {")) and "preset" not in words:
        text = f"preset: none\n{text}"
    with pytest.raises(PolicyError) as error:
        load(text, SETTINGS, crd_schema.complaints)
    assert words in str(error.value)


def test_what_is_installed_is_valid_with_every_comment_taken_off() -> None:
    for path in ROOT.glob("deploy/**/policy.yaml"):
        text = path.read_text()
        assert load(text, SETTINGS).is_same(Policy({"preset": "none"})), "as it stands, it allows everything"
        bare = "\n".join(re.sub(r"^#(?! \S)", "", line) for line in text.splitlines())
        load(bare, SETTINGS, crd_schema.complaints)


def test_the_installed_operator_reads_the_policy_under_a_name_that_stays() -> None:
    """Else a new policy would be another ConfigMap, and a restart."""
    documents = yaml.safe_load_all((ROOT / "deploy" / "base" / "operator.yaml").read_text())
    pod = next(each for each in documents if each["kind"] == "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    path = Path(container["args"][container["args"].index("--policy") + 1])
    (mount,) = (each for each in container["volumeMounts"] if each["mountPath"] == str(path.parent))
    (volume,) = (each for each in pod["volumes"] if each["name"] == mount["name"])
    name = "whisper-operator-policy"
    assert name in [each["configMap"]["name"] for each in volume["projected"]["sources"]]
    assert "subPath" not in mount, "a file of its own is never brought up to date"
    for kustomization in ROOT.glob("deploy/**/kustomization.yaml"):
        for each in yaml.safe_load(kustomization.read_text()).get("configMapGenerator", ()):
            if each["name"] == name:
                assert each["files"] == [path.name]
                assert each["options"] == {"disableNameSuffixHash": True}


def test_what_is_installed_explains_every_list() -> None:
    text = (ROOT / "deploy" / "base" / "policy.yaml").read_text()
    assert [name for name in LISTED.values() if f"#  {name}: " not in text] == []


def test_every_list_of_the_schema_is_held_against_a_field() -> None:
    rules = yaml.safe_load((ROOT / "operator/whisper_operator/policy/schema.yaml").read_text())["$defs"][
        "rules"
    ]
    lists = {
        name
        for name, each in rules["properties"].items()
        if each.get("$ref") == "#/$defs/names" or each.get("type") == "array"
    }
    assert lists == {*LISTED.values(), "egress"}


def test_a_default_of_a_thousand_namespaces_is_tried_once() -> None:
    """That takes a tenth of a second, and the operator's Lease some seconds."""
    tried = []
    text = yaml.safe_dump({
        "preset": "none",
        "everywhere": {"defaults": {"model": "turbo"}},
        "namespaces": {f"n{number}": {"hosts": []} for number in range(1000)},
    })  # fmt: skip
    load(text, SETTINGS, lambda resource: tried.append(resource) or [])  # type: ignore[func-returns-value]
    assert len(tried) == 1


def test_a_large_policy_is_read_in_seconds() -> None:
    said = {
        "preset": "none",
        "namespaces": {f"n{number}": {"hosts": ["a.example.com"]} for number in range(5000)},
    }
    text, start = yaml.safe_dump(said), time.process_time()
    load(text, SETTINGS)
    assert time.process_time() - start < 8


def test_the_example_of_the_page_gives_what_it_says() -> None:
    block = texts("docs/policies.md", "yaml")[0]
    under = load(block, SETTINGS, crd_schema.complaints)
    ledger = Ledger()
    for number in range(4):
        spec = {
            "replicas": 4,
            "host": f"w{number}.radiology.example.com",
            "auth": {"secretName": "whisper-keys"},
        }
        resource = {"metadata": {"name": f"w{number}", "namespace": "radiology"}, "spec": spec}
        ledger.ask(resource, asked(allowed.parse(resource, SETTINGS, under.of("radiology"))))
        ledger.grant(("radiology", f"w{number}"), under)


def test_what_rules_have_in_common_may_be_written_once() -> None:
    text = (
        "preset: none\neverywhere: &all {hosts: [a.example.com]}\nnamespaces: {asr: {<<: *all, secrets: []}}"
    )
    assert set(load(text, SETTINGS).of("asr").lists) == {"hosts", "secrets"}
    other = text.replace("secrets: []", "hosts: [b.example.com]")  # said once, and once in what is taken over
    assert load(other, SETTINGS).of("asr").lists["hosts"] == ("b.example.com",)
