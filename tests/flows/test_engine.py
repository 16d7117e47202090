"""Embedded models through the whole gateway: asked like any upstream, entered, cached, and refused with a reason."""

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from farthing.config import Budget, Route, Upstream
from farthing.errors import ConfigError

pytest.importorskip("onnxruntime", reason="needs farthing[engine]")
pytest.importorskip("onnx", reason="needs farthing[compress]")

LATE = {"model": "bag", "input": "my parcel is late"}
CHAT = {"model": "bag", "messages": [{"role": "user", "content": "my parcel is late"}]}


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    from engine_sample import bag

    return bag(tmp_path / "vectors", name="vectors", task="embedding")


def engine(*folders: Path, **more) -> Upstream:
    return Upstream(kind="embedded", folders=tuple(map(str, folders)), **more)


def test_labels_embeddings_and_rankings_are_served_and_entered(gateway_with, bag_artefact, vectors):
    gateway = gateway_with(upstreams={"small": engine(bag_artefact, vectors, hourly_usd="3.6")})

    labels = gateway.post("/v1/classify", LATE)
    embeddings = gateway.post("/v1/embeddings", {"model": "vectors", "input": "late"})
    ranking = gateway.post("/v1/rerank", {"model": "vectors", "query": "late", "documents": ["thanks", "parcel"]})
    chat = gateway.post("/v1/chat/completions", CHAT)

    assert labels.json["data"][0]["label"] == "delivery"
    assert embeddings.json["data"][0]["embedding"] == pytest.approx([0, 1, 0])
    assert ranking.json["results"][0]["index"] == 1
    assert chat.json["choices"][0]["message"]["content"] == "delivery"
    assert float(labels.headers["x-farthing-confidence"]) > 0.9
    found = {entry.endpoint: entry for entry in gateway.entries()}
    assert set(found) == {"classify", "embeddings", "rerank", "chat"}
    for entry in found.values():
        assert (entry.status, entry.upstream, entry.usage_source, entry.simulated) == (200, "small", "provider", False)
        assert entry.usage.input_tokens > 2
        assert 0 < entry.cost < 10**9  # a thousandth of a dollar a second, for milliseconds
    assert found["classify"].usage.output_tokens == 0
    assert found["chat"].usage.output_tokens > 0


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/rerank", "/v1/embeddings", "/v1/chat/completions"])
def test_the_same_question_is_answered_from_the_cache(gateway_with, bag_artefact, vectors, path):
    gateway = gateway_with(upstreams={"small": engine(bag_artefact, vectors, hourly_usd="0.05")})
    body = {
        "/v1/classify": LATE,
        "/v1/rerank": {"model": "vectors", "query": "late", "documents": ["thanks", "parcel"]},
        "/v1/embeddings": {"model": "vectors", "input": "late"},
        "/v1/chat/completions": CHAT,
    }[path]

    first, second = gateway.post(path, body), gateway.post(path, body)

    assert (first.headers["x-farthing-cache"], second.headers["x-farthing-cache"]) == ("miss", "hit")
    assert first.body == second.body
    bought, given = gateway.entries()
    assert bought.cost > 0
    assert given.cost == 0
    assert dict(given.saved)["exact_cache"] == bought.cost


def test_what_it_costs_is_unknown_until_someone_says_what_the_machine_costs(gateway_with, bag_artefact):
    unpriced = gateway_with(upstreams={"small": engine(bag_artefact)})
    unpriced.post("/v1/classify", LATE)
    assert unpriced.entries()[0].cost is None

    free = gateway_with(upstreams={"small": engine(bag_artefact, hourly_usd="0")}, budgets={"all": Budget(usd="1")})
    assert free.post("/v1/classify", LATE).status == 200
    assert free.entries()[0].cost == 0


def test_a_model_is_renamed_by_a_route_and_its_refusals_reach_the_caller(gateway_with, bag_artefact):
    routes = (Route("intents", "small", served_as="bag"),)
    gateway = gateway_with(upstreams={"small": engine(bag_artefact, models=("bag*",))}, routes=routes)

    assert gateway.post("/v1/classify", {**LATE, "model": "intents"}).json["data"][0]["label"] == "delivery"
    unknown = gateway.post("/v1/classify", {**LATE, "model": "bagel"})
    assert unknown.status == 404
    assert 'Did you mean "bag"' in unknown.json["error"]["message"]
    task = gateway.post("/v1/embeddings", {**LATE, "model": "bag"})
    assert task.status == 400
    assert "is for classification" in task.json["error"]["message"]
    elsewhere = gateway.post("/v1/responses", {"model": "bag", "input": "late"})
    assert elsewhere.status == 404
    assert "chat, embeddings, classify, rerank" in elsewhere.json["error"]["message"]


def test_a_streamed_chat_is_metered(gateway_with, bag_artefact):
    gateway = gateway_with(upstreams={"small": engine(bag_artefact, hourly_usd="0.05")})

    answer = gateway.post("/v1/chat/completions", {**CHAT, "stream": True})

    assert b'"content":"delivery"' in answer.body
    assert b'"usage"' not in answer.body
    (entry,) = gateway.entries()
    assert (entry.usage_source, entry.finish, entry.usage.input_tokens) == ("provider", "stop", 6)


def test_a_small_model_steps_aside_for_a_large_one_where_it_is_not_sure(gateway_with, bag_artefact):
    upstreams = {
        "small": engine(bag_artefact, hourly_usd="0.05"),
        "large": Upstream(kind="stub", models=("gpt-6-luna",)),
    }
    routes = (
        Route("support", "small", served_as="bag", rank=1, accept=0.9),
        Route("support", "large", served_as="gpt-6-luna", rank=2),
    )
    from farthing.config import Fallback

    gateway = gateway_with(upstreams=upstreams, routes=routes, fallback=Fallback(attempts=2))

    def ask(text: str):
        return gateway.post(
            "/v1/chat/completions", {"model": "support", "messages": [{"role": "user", "content": text}]}
        )

    assert ask("late parcel").json["choices"][0]["message"]["content"] == "delivery"
    unsure = ask("late refund")
    assert unsure.status == 200
    assert unsure.json["model"] == "gpt-6-luna"


def test_a_newer_version_that_is_damaged_shows_in_health_and_metrics(gateway_with, vectors):
    gateway = gateway_with(upstreams={"small": engine(vectors)})
    body = {"model": "vectors", "input": "late"}
    assert gateway.post("/v1/embeddings", body).status == 200
    assert b"farthing_stale_models 0.0" in gateway.get("/metrics").body
    (vectors / "model.onnx").write_bytes(b"half a file")

    for number in range(200):
        assert gateway.post("/v1/embeddings", {**body, "user": f"{number}", "x": number}).status == 200
        if reasons := gateway.get("/healthz").json.get("reasons"):
            break
        time.sleep(0.05)

    assert "A newer version of vectors was not loaded" in reasons[0]
    assert "model.onnx is not the file" in reasons[0]
    assert b"farthing_stale_models 1.0" in gateway.get("/metrics").body


def run_cli(*arguments: str) -> subprocess.CompletedProcess:
    code = "import sys; from farthing.cli import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_config_check_knows_what_could_not_be_served(tmp_path, bag_artefact):
    file = tmp_path / "farthing.toml"

    def check(folder: str) -> subprocess.CompletedProcess:
        file.write_text(f'[upstreams.small]\nkind = "embedded"\n{folder}\nhourly_usd = "0.05"\n')
        return run_cli("config", "check", "--config", str(file))

    assert check(f'folder = "{bag_artefact}"').returncode == 0
    missing = check("")
    assert missing.returncode == 2
    assert '[upstreams.small] is embedded, so it needs folder = "DIRECTORY"' in missing.stderr
    nowhere = check(f'folder = "{tmp_path / "none"}"')
    assert nowhere.returncode == 2
    assert "is no artefact" in nowhere.stderr
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for name in ("artefact.json", "model.onnx", "tokenizer.json"):
        (damaged / name).write_bytes((bag_artefact / name).read_bytes())
    (damaged / "model.onnx").write_bytes(b"no")
    assert "expected SHA-256" in check(f'folder = "{damaged}"').stderr


def test_without_its_libraries_the_error_says_what_to_install(gateway_with, bag_artefact, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name))

    with pytest.raises(ConfigError, match="not installed: onnxruntime") as refused:
        gateway_with(upstreams={"small": engine(bag_artefact)})
    assert "pip install 'farthing[engine]'" in refused.value.hint


def test_a_gateway_that_serves_a_model_loads_no_torch(tmp_path, bag_artefact):
    code = f"""
import asyncio, json, sys
from farthing.config import Ledger, Server, Settings, Upstream
from farthing.wiring.serving import running
async def main():
    settings = Settings(server=Server(port=0), ledger=Ledger(path={str(tmp_path / "ledger")!r}),
                        upstreams={{"small": Upstream(kind="embedded", folder={str(bag_artefact)!r})}})
    async with running(settings, {{}}) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        body = {json.dumps(LATE)!r}.encode()
        writer.write(b"POST /v1/classify HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\ncontent-length: %d\\r\\n\\r\\n%b" % (len(body), body))
        answer = await reader.read()
        assert b'"delivery"' in answer, answer
        writer.close()
    print([name for name in ("torch", "transformers", "onnx", "sklearn", "pandas", "scipy") if name in sys.modules])
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
