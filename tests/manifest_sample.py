"""Deployments to write manifests of: the plain one, every flag of each engine, and names that are hard to carry."""

import msgspec

from farthing.economics.architecture import Architecture
from farthing.economics.deployment import Deployment
from farthing.economics.hardware import Hardware
from farthing.exporters.manifests import Choice, Replicas, Speculation, Toleration


def hardware(name: str, vendor: str, computes: str, kind: str = "gpu") -> Hardware:
    peaks = dict.fromkeys(computes.split(), 1e15)
    return Hardware(name, vendor, kind, peaks, 80 * 2**30, 3e12, 4e11, 5e-6, 8, 700.0, None, "", "")


H100 = hardware("H100 SXM", "NVIDIA", "fp32 bf16 fp8 int8")
B200 = hardware("B200 SXM", "NVIDIA", "fp32 bf16 fp8 int8 fp4")
V100 = hardware("V100-32GB SXM", "NVIDIA", "fp32 bf16")
T4 = hardware("T4", "NVIDIA", "fp32 bf16 int8")
MI300X = hardware("MI300X", "AMD", "fp32 bf16 fp8 int8")
TPU = hardware("TPU v6e", "Google", "bf16 int8", "tpu")
GAUDI = hardware("Gaudi3", "Intel", "bf16 fp8", "accelerator")
XEON = hardware("Xeon 6980P socket (AMX)", "Intel", "fp32 bf16 int8", "cpu")
DENSE = Architecture("Llama-3.1-8B", 32, 4096, 32, 8, 128, 14336, 128256, 32)
MIXTURE = Architecture("Qwen3-30B-A3B", 48, 2048, 32, 4, 128, 6144, 151936, 48, experts=128, top_k=8, expert_ffn=768)
GPT_OSS = msgspec.structs.replace(MIXTURE, name="gpt-oss-120b", native="mxfp4")

BASE = Choice(
    deployment=Deployment(H100, DENSE, tensor=2),
    model_id="meta-llama/Llama-3.1-8B-Instruct",
    max_model_len=16384,
    replicas=Replicas(1, 6),
    running_per_replica=96.5,
    waiting_per_replica=12,
    cold_start_s=140.0,
    image_tag="v0.11.0",
)


def chosen(**fields: object) -> Choice:
    return msgspec.structs.replace(BASE, **fields)


def deployed(device: Hardware = H100, model: Architecture = DENSE, **fields: object) -> Deployment:
    return Deployment(device, model, **fields)


WIDE = deployed(model=MIXTURE, tensor=2, data=4, expert=8, weights="fp8", kv="fp8", max_sequences=64)
CHOICES = {
    "dense": BASE,
    "every vLLM flag": chosen(
        deployment=deployed(model=MIXTURE, tensor=2, data=4, expert=8, weights="fp8", kv="fp8"),
        speculation=Speculation("eagle3", 3, "someone/eagle"),
        replicas=Replicas(0, 3),
        requests_per_s_per_replica=4.25,
        prefix_caching=False,
        hf_token_secret="hugging-face",
        cache_claim="weights",
        namespace="serving",
        spot="gke",
        region="europe-west4",
        tolerations=(Toleration("team", "ml", "NoExecute"),),
    ),
    "pipeline": chosen(deployment=deployed(tensor=2, pipeline=4), replicas=Replicas(2, 2)),
    "from n-grams": chosen(speculation=Speculation("ngram", 4)),
    "sglang": chosen(deployment=deployed(engine="sglang", tensor=2), static_memory_share=0.87654),
    "sglang, attention copies": chosen(
        deployment=msgspec.structs.replace(WIDE, engine="sglang"), speculation=Speculation("mtp", 2)
    ),
    "sglang, whole copies": chosen(
        deployment=deployed(engine="sglang", tensor=2, data=2, pipeline=2),
        prefix_caching=False,
        speculation=Speculation("draft", 5, "meta-llama/Llama-3.2-1B"),
    ),
    "sglang from n-grams": chosen(deployment=deployed(engine="sglang"), speculation=Speculation("ngram", 4)),
    "quantised by others": chosen(deployment=deployed(weights="int4"), checkpoint="someone/Llama-3.1-8B-AWQ"),
    "published in four bits": chosen(deployment=deployed(model=GPT_OSS, weights="mxfp4", expert=2, tensor=2)),
    "AMD": chosen(deployment=deployed(MI300X, weights="fp8", tensor=4), device_groups=(44, 109), spot="karpenter"),
    "no BF16": chosen(deployment=deployed(T4)),
    "TPU": chosen(deployment=deployed(TPU, tensor=4), node_selector={"cloud.google.com/gke-tpu-topology": "2x2"}),
    "slow to start": chosen(cold_start_s=7200.0, longest_request_s=4000.0),
    "hazards": chosen(model_id="a:b#c/1e5'\"$HOME$(PATH)\\{}", hf_token_secret="t", name="hazards"),
}
