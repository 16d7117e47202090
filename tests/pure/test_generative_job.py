"""The job file of a decoder, what it names, and how texts become tokens."""

import json
from pathlib import Path

import pytest
from decoder_sample import tickets
from hypothesis import given
from hypothesis import strategies as st

from farthing.cli.compressing_decoder import is_generative
from farthing.compress.generative.job import Export, Relearn, Shrink, Texts, Weights
from farthing.compress.generative.reading import parse_generative, read_checks, read_material
from farthing.compress.generative.tokens import pieces
from farthing.errors import ConfigError, TrafficError

LEAST = 'task = "generation"\nname = "n"\n[data]\ntrain = ["t.txt"]\n[teacher]\npath = "m"\n'


def test_the_least_job_has_a_whole_line() -> None:
    job = parse_generative(LEAST, "job.toml")
    assert [type(stage) for stage in job.stages] == [Shrink, Relearn, Weights]
    assert job.targets.perplexity == 1.1


def test_every_kind_of_stage_is_read() -> None:
    stages = (
        '[[stages]]\nkind = "shrink"\nlayers = 2\nffn = 0.5\nkv_heads = 1\n'
        '[[stages]]\nkind = "distil"\ntemperature = 2.0\n'
        '[[stages]]\nkind = "quantize"\nbits = 4\nsymmetric = false\n'
        '[[stages]]\nkind = "export"\nto = "vllm-fp8"\n'
    )
    assert parse_generative(LEAST + stages, "job.toml").stages == (
        Shrink(2, 0.5, 1),
        Relearn(temperature=2.0),
        Weights(bits=4, symmetric=False),
        Export("vllm-fp8"),
    )


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        ('[[stages]]\nkind = "quantize"\nbits = 5\n', "bits"),
        ('[[stages]]\nkind = "shrink"\n', "shrinks nothing"),
        ('[[stages]]\nkind = "shrink"\nlayer = 2\n', "layer"),
        ('[[stages]]\nkind = "prune"\n', "prune"),
        ('[[stages]]\nkind = "quantize"\n[[stages]]\nkind = "distil"\n', "rounded already"),
        ("[targets]\nperplexity = 0.5\n", "perplexity"),
        ("[[[", "job.toml"),
    ],
)
def test_what_is_wrong_with_a_job_is_said(stages: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_generative(LEAST + stages, "job.toml")
    assert says in str(refused.value)
    assert "job.toml" in str(refused.value)


def test_a_job_for_a_decoder_is_known_by_its_task() -> None:
    assert is_generative(LEAST)
    assert not is_generative('task = "classification"')
    assert not is_generative("[[[")


def test_nothing_that_is_measured_is_learned_from(tmp_path: Path) -> None:
    lines = [ticket.line for ticket in tickets(50, seed=2)]
    check = tickets(50, seed=2)[7]
    (tmp_path / "t.txt").write_text("\n".join([*lines, *lines, ""]))
    (tmp_path / "c.jsonl").write_text(json.dumps({"prompt": check.prompt, "answer": check.answer}))
    material = read_material(Texts(("t.txt",), checks=("c.jsonl",), held_out=0.2), tmp_path, seed=3)
    assert len(material.dev) == 10
    assert not {*material.dev, check.line} & set(material.train)
    assert len(set(material.train)) == len(material.train) >= 39
    assert read_material(Texts(("t.txt",), held_out=0.2), tmp_path, seed=3).dev == material.dev


@pytest.mark.parametrize(
    ("line", "says"),
    [("{", "line 2"), ('{"prompt": "a"}', "answer"), ('{"prompt": "a", "answer": " "}', "empty"), ("3", "line 2")],
)
def test_a_check_that_cannot_be_read_is_named(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "c.jsonl").write_text('{"prompt": "a", "answer": "b"}\n' + line + "\n")
    with pytest.raises(TrafficError, match=says):
        read_checks(("c.jsonl",), tmp_path)


def test_one_text_cannot_be_held_out(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("alone\n")
    with pytest.raises(TrafficError, match="hold one out"):
        read_material(Texts(("t.txt",)), tmp_path, seed=0)


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(2, 9))
def test_pieces_lose_nothing_but_a_single_last_token(ids: list[int], length: int) -> None:
    found = list(pieces(ids, length))
    assert all(2 <= len(piece) <= length for piece in found)
    joined = [token for piece in found for token in piece]
    assert joined == ids[: len(joined)]
    assert len(ids) - len(joined) == (len(ids) % length == 1)
