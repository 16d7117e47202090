"""What is deployed: every flag is one that the engine has, every file fits its schema, every figure is the model's."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import jsonschema_rs
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_facts import ACCELERATORS, COUNT, FLAGS, GAUGES, KINDS, SCHEMAS, SHARE, SPECULATIVE, SWITCH, VLLM
from manifest_sample import BASE, CHOICES, chosen, deployed

from farthing.errors import RequestError
from farthing.exporters import prometheus
from farthing.exporters.manifests import ENGINES, FORMATS, Choice, Replicas, engine_of, ray, written
from farthing.exporters.manifests.command import compact
from farthing.exporters.manifests.document import quoted
from farthing.exporters.manifests.kubernetes import PRODUCTS, RESOURCES

ROOT = Path(__file__).parents[2]


EVERY = pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES.keys())


def parsed(flags: dict, words: list[str]) -> dict[str, str | None]:
    """Flags with their values, as the engine's own parser would take them: known, once, and of their kind."""
    given: dict[str, str | None] = {}
    words = list(words)
    while words:
        flag = words.pop(0)
        assert flag in flags, f"{flag} is not a flag of this engine"
        assert flag not in given
        kind = flags[flag]
        given[flag] = None if kind is SWITCH else words.pop(0)
        if kind is COUNT:
            assert int(given[flag]) > 0
        elif kind is SHARE:
            assert 0 < float(given[flag]) <= 1
        elif isinstance(kind, set):
            assert given[flag] in kind, (flag, given[flag])
    return given


def flags_of(choice: Choice) -> dict[str, str | None]:
    engine = engine_of(choice)
    model, *rest = engine.arguments(choice)
    return parsed(FLAGS[engine.name], [model, *rest] if engine.model_flag else rest)


@EVERY
def test_every_flag_is_one_of_the_engine(choice):
    flags_of(choice)


def test_the_list_of_flags_is_no_longer_than_what_is_written():
    written_flags = {name: set() for name in ENGINES}
    for choice in CHOICES.values():
        written_flags[choice.deployment.engine] |= set(flags_of(choice))
    assert {name: set(flags) for name, flags in FLAGS.items()} == written_flags


def test_an_invented_flag_is_found_out():
    with pytest.raises(AssertionError, match="not a flag"):
        parsed(VLLM, ["--tensor-parallel", "2"])


def test_vllm_gets_the_limits_that_were_predicted_with():
    given = flags_of(CHOICES["every vLLM flag"])
    assert (given["--tensor-parallel-size"], given["--data-parallel-size"]) == ("2", "4")
    assert given["--max-num-seqs"] == "256"
    assert given["--gpu-memory-utilization"] == "0.9"
    assert given["--quantization"] == given["--kv-cache-dtype"] == "fp8"
    assert "--dtype" not in given
    config = json.loads(given["--speculative-config"])
    assert config == {"method": "eagle3", "num_speculative_tokens": 3, "model": "someone/eagle"}
    assert set(config) <= SPECULATIVE
    assert set(json.loads(flags_of(CHOICES["from n-grams"])["--speculative-config"])) <= SPECULATIVE


def test_sglang_gets_totals_where_it_divides_by_the_copies_of_the_attention():
    given = flags_of(CHOICES["sglang, attention copies"])
    assert (given["--tp-size"], given["--dp-size"], given["--ep-size"]) == ("8", "4", "8")
    assert (given["--max-running-requests"], given["--chunked-prefill-size"]) == (str(64 * 4), str(8192 * 4))
    whole = flags_of(CHOICES["sglang, whole copies"])
    assert (whole["--tp-size"], whole["--dp-size"], whole["--max-running-requests"]) == ("2", "2", "256")
    assert "--enable-dp-attention" not in whole


def test_nothing_is_quantised_that_is_quantised_already():
    for name in ("quantised by others", "published in four bits"):
        assert not {"--quantization", "--dtype"} & set(flags_of(CHOICES[name]))
    assert engine_of(BASE).arguments(CHOICES["quantised by others"])[0] == "someone/Llama-3.1-8B-AWQ"
    assert flags_of(CHOICES["quantised by others"])["--served-model-name"] == BASE.model_id


def test_hardware_before_bf16_runs_in_fp16():
    assert flags_of(CHOICES["no BF16"])["--dtype"] == "float16"
    assert flags_of(BASE)["--dtype"] == "bfloat16"
    assert flags_of(chosen(deployment=deployed(weights="fp16")))["--dtype"] == "float16"


@EVERY
def test_the_script_starts_the_engine_with_these_arguments(choice, tmp_path):
    engine = engine_of(choice)
    stub = tmp_path / engine.program[0]
    stub.write_text(f"#!{sys.executable}\nimport sys\nprint(repr(sys.argv[1:]))\n")
    stub.chmod(0o755)
    script = tmp_path / "serve.sh"
    script.write_text(written(choice, "command")[1])
    run = subprocess.run(
        ["bash", str(script)],
        env={"PATH": f"{tmp_path}:/usr/local/bin:/usr/bin:/bin", "HOME": "/nowhere"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ast.literal_eval(run.stdout) == [*engine.program[1:], *engine.arguments(choice)]


class Strict(yaml.SafeLoader):
    """Refuses a key that is there twice, which others would drop in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), keys
        return super().construct_mapping(node, deep)


def loaded(choice: Choice, form: str) -> list[dict]:
    """The documents of a file, each held against its schema."""
    documents = list(yaml.load_all(written(choice, form)[1], Strict))
    for document in documents:
        schema = SCHEMAS[form] if form in SCHEMAS else KINDS[document["kind"]]
        errors = [
            f"{error.instance_path}: {error.message}"
            for error in jsonschema_rs.validator_for(schema).iter_errors(document)
        ]
        assert errors == []
    return documents


def attempted(choice: Choice, form: str) -> list[dict]:
    """The same, or nothing for what this form says it cannot do."""
    try:
        return loaded(choice, form)
    except RequestError:
        return []


@EVERY
@pytest.mark.parametrize("form", ["kubernetes", "keda", "ray", "compose"])
def test_every_file_fits_its_schema(choice, form):
    attempted(choice, form)


def places(thing: object) -> Iterator[dict]:
    """Every mapping in a document."""
    if isinstance(thing, dict):
        yield thing
    for inner in thing.values() if isinstance(thing, dict) else thing if isinstance(thing, list) else ():
        yield from places(inner)


@pytest.mark.parametrize(
    ("form", "free"),
    [
        ("kubernetes", {"labels", "matchLabels", "annotations", "nodeSelector", "requests", "limits", "selector"}),
        ("keda", set()),
        ("ray", set()),
        ("compose", {"environment"}),
    ],
)
def test_a_name_with_a_slip_in_it_fits_no_schema(form, free):
    for document in loaded(BASE, form):
        schema = SCHEMAS.get(form) or KINDS[document["kind"]]
        validator = jsonschema_rs.validator_for(schema)
        named_freely = [inner for each in places(document) for key, inner in each.items() if key in free]
        for place in places(document):
            for key in [] if any(place is each for each in named_freely) else list(place):
                place[f"{key}s"] = place.pop(key)
                assert not validator.is_valid(document), key
                place[key] = place.pop(f"{key}s")
        assert validator.is_valid(document)


def test_what_is_written_in_which_form():
    def forms(name: str) -> set[str]:
        return {form for form in ("kubernetes", "keda", "ray", "compose") if attempted(CHOICES[name], form)}

    assert forms("dense") == {"kubernetes", "keda", "ray", "compose"}
    assert forms("every vLLM flag") == {"kubernetes", "keda", "compose"}
    assert forms("pipeline") == {"kubernetes", "ray", "compose"}
    assert forms("sglang") == {"kubernetes", "keda", "compose"}
    assert forms("TPU") == {"kubernetes", "keda", "ray"}


def by_kind(choice: Choice) -> tuple[dict, dict, dict]:
    return tuple(loaded(choice, "kubernetes"))


@EVERY
def test_the_pods_are_found_run_what_was_chosen_and_are_what_was_planned(choice):
    deployment, service, budget = by_kind(choice)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    assert budget["spec"]["selector"]["matchLabels"] == labels
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    engine = engine_of(choice)
    assert container["command"] == list(engine.program)
    assert [word.replace("$$", "$") for word in container["args"]] == list(engine.arguments(choice))
    assert all(len(run) % 2 == 0 for word in container["args"] for run in re.findall(r"\$+", word)), "would be replaced"
    (device,) = {name for name in container["resources"]["limits"] if "/" in name}
    assert device in {"nvidia.com/gpu", "amd.com/gpu", "google.com/tpu"}
    for amounts in container["resources"].values():
        assert amounts[device] == str(choice.deployment.devices)
    assert device in [toleration["key"] for toleration in pod["tolerations"]]
    assert ("replicas" in deployment["spec"]) == (not choice.scales), "two would set the number of replicas"
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    assert all(len(volume) == 2 for volume in pod["volumes"])
    assert all(len(variable) == 2 for variable in container["env"])


@EVERY
def test_a_pod_gets_the_time_that_it_takes_to_start_and_to_stop(choice):
    spec = by_kind(choice)[0]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    startup = container["startupProbe"]
    allowed = startup["periodSeconds"] * startup["failureThreshold"]
    assert 3 * choice.cold_start_s <= allowed <= 3 * choice.cold_start_s + startup["periodSeconds"]
    assert spec["progressDeadlineSeconds"] > 3 * choice.cold_start_s
    notice = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert notice > choice.longest_request_s
    assert pod["terminationGracePeriodSeconds"] > notice


def test_secrets_are_referred_to_and_weights_are_kept():
    text = written(CHOICES["every vLLM flag"], "kubernetes")[1]
    (deployment, *_) = yaml.safe_load_all(text)
    pod = deployment["spec"]["template"]["spec"]
    given = {each["name"]: each for each in pod["containers"][0]["env"]}
    assert given["HF_TOKEN"]["valueFrom"] == {"secretKeyRef": {"name": "hugging-face", "key": "token"}}
    assert {"name": "cache", "persistentVolumeClaim": {"claimName": "weights"}} in pod["volumes"]
    assert "HF_TOKEN" not in written(BASE, "kubernetes")[1]
    assert "${HF_TOKEN:?" in written(CHOICES["every vLLM flag"], "compose")[1]


def test_pods_go_where_the_hardware_is():
    def pod(choice: Choice) -> dict:
        return by_kind(choice)[0]["spec"]["template"]["spec"]

    assert pod(BASE)["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    spot = pod(CHOICES["every vLLM flag"])
    assert spot["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert spot["nodeSelector"]["topology.kubernetes.io/region"] == "europe-west4"
    tolerated = [(each["key"], each.get("value"), each["effect"]) for each in spot["tolerations"]]
    assert ("cloud.google.com/gke-spot", "true", "NoSchedule") in tolerated
    assert ("team", "ml", "NoExecute") in tolerated
    assert pod(CHOICES["AMD"])["securityContext"]["supplementalGroups"] == [44, 109]


@EVERY
def test_the_scaler_asks_for_gauges_that_there_are_with_thresholds_of_the_model(choice):
    for scaled in attempted(choice, "keda"):
        spec = scaled["spec"]
        assert spec["scaleTargetRef"]["name"] == by_kind(choice)[0]["metadata"]["name"]
        assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (choice.replicas.least, choice.replicas.most)
        busy, waiting, *more = [trigger["metadata"] for trigger in spec["triggers"]]
        gauges = GAUGES[choice.deployment.engine]
        assert set(re.findall(r"(?:vllm|sglang):\w+", busy["query"])) == gauges
        assert set(re.findall(r"(?:vllm|sglang):\w+", waiting["query"])) < gauges
        assert float(busy["threshold"]) == pytest.approx(choice.running_per_replica)
        assert float(waiting["threshold"]) == pytest.approx(choice.waiting_per_replica)
        assert busy["query"].count(f"model_name={quoted(choice.model_id)}") == 2
        assert bool(more) == (choice.replicas.least == 0)
        for trigger in more:
            family = re.search(r"farthing_(\w+)_total", trigger["query"])[1]
            assert {"model"} <= {label for each in prometheus.FAMILIES if each.name == family for label in each.labels}
            assert float(trigger["threshold"]) == choice.requests_per_s_per_replica


def test_a_lost_gauge_is_a_failure_only_where_there_should_be_one():
    def nulls(choice: Choice) -> set[str]:
        (scaled,) = loaded(choice, "keda")
        return {trigger["metadata"]["ignoreNullValues"] for trigger in scaled["spec"]["triggers"]}

    assert nulls(BASE) == {"false"}
    assert nulls(CHOICES["every vLLM flag"]) == {"true"}


@settings(deadline=None)
@given(
    st.floats(0.01, 1e5),
    st.floats(0.01, 1e5),
    st.floats(1e-3, 256),
    st.floats(1e-3, 1e6),
    st.integers(0, 3),
    st.integers(4, 900),
)
def test_whatever_is_predicted_is_within_what_kubernetes_takes(cold_s, longest_s, running, waiting, least, most):
    choice = chosen(
        cold_start_s=cold_s,
        longest_request_s=longest_s,
        running_per_replica=running,
        waiting_per_replica=waiting,
        replicas=Replicas(least, most),
        requests_per_s_per_replica=2.5,
    )
    (scaled,) = loaded(choice, "keda")
    assert ("cooldownPeriod" in scaled["spec"]) == (least == 0)
    assert scaled["spec"].get("cooldownPeriod", cold_s) >= cold_s
    for form in ("kubernetes", "ray", "compose"):
        loaded(choice, form)


def test_names_of_hardware_are_those_of_the_catalogue():
    data = tomllib.loads((ROOT / "src/farthing/economics/data/hardware.toml").read_text())
    known = {compact(row["name"]) for rows in data.values() for row in rows}
    assert set(PRODUCTS) | set(ray.ACCELERATORS) <= known
    assert set(ray.ACCELERATORS.values()) <= set(ACCELERATORS)
    assert set(RESOURCES) == {row["vendor"].casefold() for rows in data.values() for row in rows}


def test_ray_gets_the_arguments_of_the_command_line():
    for choice in (BASE, CHOICES["pipeline"], CHOICES["from n-grams"]):
        (config,) = loaded(choice, "ray")[0]["applications"][0]["args"]["llm_configs"]
        engine = engine_of(choice)
        as_flags = []
        for name, value in config["engine_kwargs"].items():
            flag = "--" + name.replace("_", "-")
            as_flags += (
                [flag] if value is True else [flag, json.dumps(value) if isinstance(value, dict) else str(value)]
            )
        given = parsed(VLLM, as_flags)
        assert given.items() <= parsed(VLLM, engine.arguments(choice)[1:]).items()
        assert set(parsed(VLLM, engine.arguments(choice)[1:])) - set(given) == {
            "--served-model-name",
            "--host",
            "--port",
        }
        scaling = config["deployment_config"]["autoscaling_config"]
        assert scaling["target_ongoing_requests"] == choice.running_per_replica
    assert (
        loaded(chosen(prefix_caching=False), "ray")[0]["applications"][0]["args"]["llm_configs"][0]["engine_kwargs"][
            "enable_prefix_caching"
        ]
        is False
    )


def test_compose_replaces_nothing_in_what_it_was_given():
    (document,) = loaded(CHOICES["hazards"], "compose")
    engine = document["services"]["engine"]
    assert [word.replace("$$", "$") for word in engine["command"]] == list(
        engine_of(BASE).arguments(CHOICES["hazards"])
    )
    assert not re.search(r"(?<!\$)(\$\$)*\$(?!\$)", " ".join(engine["command"]))
    (device,) = engine["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 2, "capabilities": ["gpu"]}
    (amd,) = loaded(CHOICES["AMD"], "compose")
    assert amd["services"]["engine"]["environment"]["HIP_VISIBLE_DEVICES"] == "0,1,2,3"
    assert amd["services"]["engine"]["group_add"] == ["44", "109"]


def test_figures_say_where_they_come_from():
    text = "".join(written(chosen(source="farthing plan of 3 May"), form)[1] for form in FORMATS)
    assert text.count("farthing plan of 3 May") == len(FORMATS)
    assert re.search(r'threshold: "96.5"  # predicted: .* time per output token misses its target', text)
    assert re.search(r"failureThreshold: 42  # 3 times the predicted start of 140 s", text)
    assert re.search(r"--max-num-seqs 256 +# .* as predicted with", text)


@settings(deadline=None)
@given(
    st.text(st.characters(exclude_categories=("Z", "C")), min_size=1, max_size=24).filter(lambda text: text[0] != "-")
)
def test_any_name_arrives_as_it_is(model_id):
    choice = chosen(model_id=model_id, name="any", requests_per_s_per_replica=1.0, replicas=Replicas(0, 2))
    (config,) = loaded(choice, "ray")[0]["applications"][0]["args"]["llm_configs"]
    assert config["model_loading_config"] == {"model_id": model_id, "model_source": model_id}
    container = by_kind(choice)[0]["spec"]["template"]["spec"]["containers"][0]
    assert container["args"][0].replace("$$", "$") == model_id
    query = loaded(choice, "keda")[0]["spec"]["triggers"][1]["metadata"]["query"]
    assert yaml.safe_load(re.search(r'"(\\.|[^"])*"', query)[0]) == model_id


def test_the_guide_names_every_file():
    guide = (ROOT / "docs" / "guides" / "plan-deploy.md").read_text()
    for file, _ in FORMATS.values():
        assert f"`{file}`" in guide
