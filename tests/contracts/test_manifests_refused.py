"""What no manifest can be written of: each refusal says what, how much, and what to do instead."""

import re

import msgspec
import pytest
from manifest_sample import B200, CHOICES, GAUDI, H100, MI300X, MIXTURE, TPU, V100, XEON, chosen, deployed

from farthing.economics.hardware import Hardware
from farthing.errors import RequestError
from farthing.exporters.manifests import FORMATS, Replicas, Speculation, engine_of, written

REFUSED = {
    "no experts": (deployed(expert=2, tensor=2), r"Llama-3.1-8B has no experts to split 2 ways"),
    "uneven heads": (deployed(tensor=3), r"32 attention heads, which 3 devices"),
    "more stages than layers": (deployed(pipeline=64), r"32 layers, fewer than 64 stages"),
    "no devices": (deployed(tensor=0), r"tensor parallelism of 0"),
    "experts on odd devices": (deployed(model=MIXTURE, tensor=2, expert=4), r"split 4 ways do not fit on 2 x 1"),
    "experts on some devices": (deployed(model=MIXTURE, tensor=4, expert=2), r"vLLM cannot split experts 2 ways"),
    "whole experts on each rank": (deployed(model=MIXTURE, data=2), r"no whole copy of Qwen3-30B-A3B's experts"),
    "uneven experts": (
        deployed(model=msgspec.structs.replace(MIXTURE, experts=60), engine="sglang", tensor=8, expert=8),
        r"60 experts 8 ways",
    ),
    "pipeline on a TPU": (deployed(TPU, pipeline=2), r"2 pipeline stages on TPU v6e"),
    "sglang on a TPU": (deployed(TPU, engine="sglang"), r"SGLang does not run on TPU v6e"),
    "a CPU": (deployed(XEON), r"No manifest is written for Xeon"),
    "int4 from nowhere": (deployed(weights="int4"), r"cannot make int4 weights of meta-llama/Llama-3.1-8B-Instruct"),
    "int4 on AMD": (deployed(MI300X, weights="int4"), r"int4 weights|int4 kernels"),
    "fp8 on a TPU": (deployed(TPU, weights="fp8"), r"TPU v6e does not compute in fp8"),
    "fp8 on Volta": (deployed(V100, weights="fp8"), r"V100-32GB SXM does not compute in fp8"),
    "no such precision": (deployed(weights="fp7"), r"'fp7' is not known"),
    "no such cache": (deployed(kv="int3"), r"keeps no KV cache in int3"),
    "a cache of another type": (deployed(weights="fp32", kv="bf16"), r"does not go with fp32 weights"),
    "fewer tokens than sequences": (deployed(max_batched_tokens=128), r"128 tokens in one iteration are fewer"),
    "no such engine": (deployed(engine="tgi"), r"engine 'tgi'"),
    "more than all memory": (deployed(memory_share=1.2), r"memory_share is 1.2"),
}


@pytest.mark.parametrize(("deployment", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_an_engine_cannot_do_is_refused_in_every_form(deployment, message):
    for form in FORMATS:
        with pytest.raises(RequestError, match=message) as refusal:
            written(chosen(deployment=deployment), form)
        assert refusal.value.hint
        assert refusal.value.message.endswith(".")


def test_fp4_is_refused_where_nothing_unpacks_it():
    def refusal(device: Hardware, engine: str) -> str:
        try:
            engine_of(chosen(deployment=deployed(device, weights="nvfp4", engine=engine), checkpoint="a/b-NVFP4"))
        except RequestError as error:
            return error.message
        return ""

    assert refusal(B200, "vllm") == refusal(B200, "sglang") == refusal(H100, "vllm") == ""
    assert "H100 SXM does not compute in fp4" in refusal(H100, "sglang")
    assert "MI300X does not compute in fp4" in refusal(MI300X, "vllm")


NONSENSE = {
    "flag for a name": ({"model_id": "--trust-remote-code"}, "command line can carry"),
    "two lines": ({"model_id": "a\nb"}, "command line can carry"),
    "no name": ({"model_id": ""}, "No model_id"),
    "no release": ({"image_tag": "latest"}, "names no release"),
    "no label": ({"name": "Up"}, "not a DNS label"),
    "a token for a secret's name": ({"hf_token_secret": "hf_AbC"}, "name of a Kubernetes object"),
    "no address": ({"prometheus": "prometheus:9090"}, "no address"),
    "unknown cloud": ({"spot": "moon"}, "'moon'"),
    "bounds crossed": ({"replicas": Replicas(3, 2)}, "from 3 to 2"),
    "none at all": ({"replicas": Replicas(0, 0)}, "from 0 to 0"),
    "nothing to wake up by": ({"replicas": Replicas(0, 2)}, "Scaling to zero needs"),
    "never starts": ({"cold_start_s": float("inf")}, "cold_start_s is inf"),
    "no number": ({"running_per_replica": float("nan")}, "running_per_replica is nan"),
    "negative": ({"waiting_per_replica": -1.0}, "waiting_per_replica is -1.0"),
    "more than it takes": ({"running_per_replica": 257.0}, "257 requests cannot run at once"),
    "root's port": ({"port": 80}, "Port 80"),
    "no drafting model": ({"speculation": Speculation("eagle3", 3)}, "needs a model that drafts"),
    "unknown drafting": ({"speculation": Speculation("guess", 3)}, "'guess'"),
    "nothing drafted": ({"speculation": Speculation("ngram", 0)}, "0 tokens"),
}


@pytest.mark.parametrize(("fields", "message"), NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_is_refused_in_every_form(fields, message):
    for form in FORMATS:
        with pytest.raises(RequestError, match=re.escape(message)) as refusal:
            written(chosen(**fields), form)
        assert refusal.value.hint


@pytest.mark.parametrize(
    ("form", "choice", "message"),
    [
        ("keda", CHOICES["pipeline"], "Nothing scales"),
        ("kubernetes", chosen(deployment=deployed(tensor=8, pipeline=2)), "16 devices does not fit on a node of 8"),
        ("compose", chosen(deployment=deployed(tensor=8, pipeline=2)), "16 devices does not fit"),
        ("compose", chosen(deployment=deployed(TPU)), "No image of vllm|hands a TPU v6e"),
        ("kubernetes", chosen(deployment=deployed(GAUDI)), "No image of vllm for Gaudi3 is known"),
        ("kubernetes", chosen(deployment=deployed(TPU)), "Which slice of TPU v6e"),
        ("ray", CHOICES["sglang"], "runs vLLM, not sglang"),
        ("ray", CHOICES["every vLLM flag"], "4 data-parallel copies"),
    ],
)
def test_what_a_form_cannot_say_is_refused(form, choice, message):
    with pytest.raises(RequestError, match=message) as refusal:
        written(choice, form)
    assert refusal.value.hint
