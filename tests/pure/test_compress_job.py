"""The job file: what is accepted, and that every refusal names the key, the value and what is allowed."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.compress.job import Data, Distil, Job, Prune, Quantize, Teacher
from farthing.compress.parsing import digest, parse_job
from farthing.errors import ConfigError

WHOLE = """
name = "banking"
seed = 3

[data]
train = ["train.csv"]
label = "category"

[teacher]
path = "encoder"
"""


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_job(text, "job.toml")
    assert caught.value.hint
    return caught.value.message.splitlines()


def stages(text: str) -> str:
    return WHOLE + text


def test_a_small_job_takes_every_default():
    assert parse_job(WHOLE, "job.toml") == Job(
        name="banking", data=Data(train=("train.csv",), label="category"), teacher=Teacher(path="encoder"), seed=3
    )


def test_a_byte_order_mark_is_no_fault():
    assert parse_job("\ufeff" + WHOLE, "job.toml").name == "banking"


def test_a_teacher_without_a_path_learns_all_from_the_texts():
    text = WHOLE.replace('path = "encoder"', "layers = 2\nwidth = 64")
    assert parse_job(text, "job.toml").teacher == Teacher(layers=2, width=64)


def test_stages_are_told_apart_by_their_kind_and_run_in_any_subset():
    text = '[[stages]]\nkind = "prune"\nffn = 64\n[[stages]]\nkind = "distil"\nlayers = [0, 5]\n'
    assert parse_job(stages(text), "job.toml").stages == (Prune(ffn=64), Distil(layers=(0, 5)))
    assert parse_job(stages('[[stages]]\nkind = "quantize"\n'), "job.toml").stages == (Quantize(),)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (WHOLE + "pth = 1", 'job.toml: [teacher] has no key "pth"; did you mean "path"?'),
        ("sed = 1" + WHOLE, 'job.toml: the job has no key "sed"; did you mean "seed"?'),
        (WHOLE + "members = 0", "job.toml: teacher.members is 0; expected a whole number from 1"),
        (WHOLE + "width = 100", "job.toml: teacher.width is 100; expected a whole number from 32, in steps of 32"),
        (WHOLE + "rate = nan", "job.toml: teacher.rate is nan; expected a learning rate between 0 and 1"),
        (WHOLE + "[targets]\nfaster = inf", "job.toml: targets.faster is inf; expected a finite number"),
        (WHOLE + "[targets]\nlost = 101", "job.toml: targets.lost is 101; expected points from 0 to 100"),
        (WHOLE + "[data.augment]\ncopies = -1", "job.toml: data.augment.copies is -1; expected a whole number from 0 to 100"),
        (WHOLE + '[data.augment]\noperations = ["tpyo"]', 'job.toml: data.augment.operations[0] is "tpyo"; expected one of "crossover", "delete", "swap", "typo", "case"; did you mean "typo"?'),
        ('task = "clasification"' + WHOLE, 'job.toml: task is "clasification"; expected one of "classification", "multi-label", "regression", "tagging", "embedding"; did you mean "classification"?'),
        (WHOLE + "labeller = 3", "job.toml: teacher.labeller is 3; expected a table"),
        (WHOLE + '[teacher.labeller]\nmodle = "m"\nmodel = "m"', 'job.toml: [teacher.labeller] has no key "modle"; did you mean "model"?'),
        (stages('[[stages]]\nkind = "distill"'), 'job.toml: stages[0].kind is "distill"; expected one of "distil", "prune", "quantize"; did you mean "distil"?'),
        (stages("[[stages]]\nepochs = 3"), 'job.toml: stages[0] has no "kind", which it needs'),
        (stages('[[stages]]\nkind = "distil"\n[[stages]]\nkind = "prune"\nhead = 3'), 'job.toml: [stages[1]] has no key "head"; did you mean "heads"?'),
        (stages('[[stages]]\nkind = "distil"\nlayers = "all"'), 'job.toml: stages[0].layers is "all"; expected a list of whole numbers or a whole number from 1'),
        (stages('[[stages]]\nkind = "distil"\nlayers = ["a"]'), 'job.toml: stages[0].layers[0] is "a"; expected a whole number'),
        (stages('[[stages]]\nkind = "quantize"\nembeddings = 5'), "job.toml: stages[0].embeddings is 5; expected one of 4, 8, 32"),
        (stages('[stages]\nkind = "distil"'), 'job.toml: stages is {"kind":"distil"}; expected a list of tables, each under [[...]]'),
        ('name = "x"\n[data]\ntrain = "a.csv"', 'job.toml: data.train is "a.csv"; expected a list of texts'),
        ('name = "x"', 'job.toml: the job has no "data", which it needs'),
        ('[data]\ntrain = ["a"]', 'job.toml: the job has no "name", which it needs'),
    ],
)  # fmt: skip
def test_what_is_misspelt_or_out_of_range_is_named_with_what_is_allowed(text, fault):
    assert fault in faults(text)


def test_what_is_no_toml_is_refused_with_the_line():
    assert faults('name = "x"\n[data\n') == [
        "job.toml is not TOML: Expected ']' at the end of a table declaration (at line 2, column 6)"
    ]


def test_every_fault_is_told_at_once():
    text = WHOLE + 'epoch = 1\nbatch = 0\n[targets]\nlost = -1\n[[stages]]\nkind = "prune"\n'
    assert faults(text) == [
        'job.toml: [teacher] has no key "epoch"; did you mean "epochs"?',
        "job.toml: teacher.batch is 0; expected a whole number from 1",
        "job.toml: targets.lost is -1; expected points from 0 to 100",
        "job.toml: stages[0] prunes nothing; say how many heads, ffn, width, layers or vocabulary are to be left",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("stages = []" + WHOLE, "stages is empty"),
        (WHOLE.replace("encoder", " "), "teacher.path is ' ', with blanks around it"),
        (WHOLE.replace('path = "encoder"', "finished = true"), "teacher.path is empty, and teacher.finished = true"),
        ('task = "embedding"' + WHOLE.replace('label = "category"', ""), "a teacher of embeddings is not trained here"),
        (WHOLE.replace('"banking"', '"a/b"'), "no slashes"),
        (WHOLE.replace('["train.csv"]', "[]"), "data.train is empty"),
        (WHOLE.replace('["train.csv"]', '["a.csv", "a.csv"]'), "data.train names a.csv twice"),
        (WHOLE.replace('"category"', '"category"\ntest = ["train.csv"]'), "data.train and data.test both name train.csv"),
        (WHOLE.replace('"category"', '"text"'), "must be columns of their own"),
        ('task = "embedding"' + WHOLE, "data.label is given, and an embedding has no labels"),
        (stages('[[stages]]\nkind = "quantize"\n[[stages]]\nkind = "distil"'), "stages[1] (distil) comes after stages[0] (quantize): whole numbers cannot be trained"),
        (stages('[[stages]]\nkind = "quantize"\n[[stages]]\nkind = "quantize"'), "stages[1] (quantize) comes after"),
        (stages('[[stages]]\nkind = "distil"\nlayers = []'), "stages[0].layers is empty"),
        (stages('[[stages]]\nkind = "distil"\nlayers = [1, 1]'), "stages[0].layers names layer 1 twice"),
        (stages('[[stages]]\nkind = "distil"\nlayers = [5, 0]'), "from the lowest up"),
        (stages('[[stages]]\nkind = "distil"\nlayers = [-1]'), "negative number"),
        (stages('[[stages]]\nkind = "distil"\nlosses = {soft = 0, hard = 0, pooled = 0}'), "stages[0].losses are all 0"),
        (stages('[[stages]]\nkind = "prune"\nffn = 4\nsteps = 9'), "too few for 9 steps"),
        (stages('[[stages]]\nkind = "quantize"\nrecipes = []'), "stages[0].recipes is empty"),
        (WHOLE + "finished = true\nmembers = 2", "asks to train several"),
        (WHOLE + "epochs = 0", "teacher.epochs is 0"),
        (WHOLE + '[teacher.labeller]\nmodel = "m"\nkey = "sk-secret"', "must say where the key is kept"),
        (WHOLE + "[search]\ntrials = 2\nrungs = 3", "leaves none for the last"),
        (stages('[[stages]]\nkind = "quantize"\n[search]\ntrials = 4'), "stages has neither"),
        (WHOLE + "[targets]\nusd_per_1k = 1.0\n[machine]\nusd_per_h = 0.0", "machine.usd_per_h is 0"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_the_reason(text, fault):
    said = faults(text)
    assert any(fault in line for line in said), said
    assert "sk-secret" not in "".join(said)


def test_the_digest_follows_the_content_and_not_the_writing():
    job = parse_job(WHOLE, "job.toml")
    assert digest(job) == digest(parse_job("# a remark\n" + WHOLE, "elsewhere.toml"))
    assert digest(job) != digest(msgspec.structs.replace(job, seed=4))


leaves = st.one_of(
    st.booleans(), st.integers(-3, 10**6), st.floats(), st.text(max_size=5), st.lists(st.integers(-2, 9), max_size=3)
)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("abkindlosethprw", min_size=1, max_size=6), inner, max_size=3), max_leaves=6)  # fmt: skip


@given(
    st.dictionaries(
        st.sampled_from(("name", "task", "stages", "teacher", "targets", "search", "out", "seed", "nmae", "data")),
        values,
    )
)
def test_whatever_a_file_says_is_a_job_or_a_refusal(said):
    from farthing.compress.parsing import _converted

    told, job = _converted({"name": "x", "data": {"train": ["a"]}, **said})
    assert told or job is not None


def test_the_job_file_needs_nothing_heavy(tmp_path):
    import subprocess
    import sys

    program = "import sys, farthing.compress.parsing; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2] / "src",
    ).stdout.split()
    assert "msgspec" in loaded
    assert not {"torch", "numpy", "onnxruntime", "transformers"} & set(loaded)
