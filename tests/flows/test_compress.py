"""A job from its data to an artefact that is served, killed and continued on the way."""

import shutil

import msgspec
import numpy as np
import pytest
import torch
from compress_sample import FEW, STAGES, Killed, Watching, small_job, write_data, write_rows

from farthing.compress.job import Distil, Prune, Quantize, Targets
from farthing.compress.pipeline import run
from farthing.compress.record import decode
from farthing.engines.artefacts import read_artefact
from farthing.engines.onnx import Model
from farthing.errors import ConfigError, TrafficError

pytestmark = pytest.mark.timeout(600)  # it trains


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which a small job has run, and its report."""
    folder = tmp_path_factory.mktemp("job")
    write_data(folder)
    return folder, run(small_job(), folder, Watching())


def copied(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "again")
    return tmp_path / "again"


def test_a_job_ends_with_a_smaller_model_that_answers_nearly_as_well(finished):
    folder, report = finished
    teacher, final = report.teacher, report.final

    assert [row.kind for row in report.rows] == ["teacher", "distil", "prune", "quantize"]
    assert teacher.test.value > 75
    assert final.test.value > teacher.test.value - 15
    assert final.mb < teacher.mb / 5
    assert report.rows[2].parameters < report.rows[1].parameters < teacher.parameters
    assert all(row.cpu_ms and row.texts_per_cpu_s and row.peak_rss_mb for row in report.rows)
    assert [control.name for control in report.controls] == ["TF-IDF + logistic regression", "teacher, only quantized"]
    assert decode((folder / "compressed" / "report.json").read_bytes()) == report

    model = Model.load(folder / "compressed")
    assert read_artefact(folder / "compressed").labels == FEW
    logits = model.outputs(["i want to cancel my order", "cancel it please"])
    assert logits.shape == (2, len(FEW))
    assert np.isfinite(logits).all()


def test_what_was_finished_is_kept_and_only_what_changed_is_done_again(finished, tmp_path):
    folder = copied(finished, tmp_path)
    again = Watching()

    report = run(small_job(stages=(STAGES[0], STAGES[1], Quantize(recipes=("static",), calibration=16))), folder, again)

    kept = [note for note in again.notes if note.endswith("it is kept.")]
    assert {note.split()[0] for note in kept} >= {"teacher", "1-distil", "2-prune"}
    assert [row.dev.value for row in report.rows[:3]] == [row.dev.value for row in finished[1].rows[:3]]


@pytest.mark.parametrize("share", [0.1, 0.45, 0.7, 0.95])
def test_a_run_that_is_killed_goes_on_and_ends_the_same(finished, tmp_path, share):
    write_data(tmp_path)
    whole = Watching()
    with pytest.raises(Killed):
        run(small_job(), tmp_path, Watching(kill_at=int(share * total_steps(finished))))
    assert not (tmp_path / "compressed").exists()

    report = run(small_job(), tmp_path, whole)

    assert [row.dev.value for row in report.rows] == [row.dev.value for row in finished[1].rows]
    assert whole.steps < total_steps(finished)


def total_steps(finished) -> int:
    counted = Watching()
    folder = finished[0].parent / "counted"
    if not (folder / "steps").exists():
        folder.mkdir(exist_ok=True)
        write_data(folder)
        run(small_job(), folder, counted)
        (folder / "steps").write_text(str(counted.steps))
    return int((folder / "steps").read_text())


def test_a_damaged_stage_is_done_again(finished, tmp_path):
    folder = copied(finished, tmp_path)
    weights = next((folder / "compressed.work").glob("2-prune-*/weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    again = Watching()

    report = run(small_job(), folder, again)

    assert any("2-prune is done again" in note and "SHA-256" in note for note in again.notes)
    assert [row.dev.value for row in report.rows] == [row.dev.value for row in finished[1].rows]


def test_a_stage_that_breaks_the_floor_is_tried_again_gentler(finished, tmp_path):
    folder = copied(finished, tmp_path)
    harsh = Prune(width=2, epochs=0)
    watching = Watching()

    report = run(
        small_job(stages=(STAGES[0], harsh, STAGES[2]), targets=Targets(lost=15.0, recall_lost=100)), folder, watching
    )

    pruned = report.rows[2]
    assert any("tried again, gentler" in note for note in watching.notes)
    assert pruned.verdict in ("backed off", "broke the floor")
    if pruned.verdict == "broke the floor":
        assert "points" in pruned.note
        assert report.final.kind == "quantize"
    assert report.final.dev_against_teacher.lost <= 15


@pytest.mark.parametrize(
    "stages",
    [
        (Quantize(recipes=("dynamic",), calibration=16),),
        (Prune(heads=1, ffn=64, epochs=1),),
        (Prune(ffn=64, layers=1, width=32, epochs=1, importance="activation"), Quantize(recipes=("dynamic",))),
        (Prune(ffn=64, epochs=1), Distil(layers=1, width=32, epochs=1)),
    ],
)
def test_any_order_of_stages_runs(finished, tmp_path, stages):
    folder = copied(finished, tmp_path)
    report = run(small_job(stages=stages, targets=Targets(lost=100, recall_lost=100)), folder, Watching())
    assert len(report.rows) == len(stages) + 1
    assert report.final.mb < report.teacher.mb
    assert Model.load(folder / "compressed").outputs(["where is my order"]).shape == (1, len(FEW))


def test_labels_that_changed_between_runs_are_refused(finished, tmp_path):
    folder = copied(finished, tmp_path)
    lines = (folder / "train.csv").read_text()
    (folder / "train.csv").write_text(lines.replace(FEW[0], "renamed"))
    (folder / "test.csv").unlink()
    job = small_job()
    job = msgspec.structs.replace(job, data=msgspec.structs.replace(job.data, test=()))
    with pytest.raises(ConfigError, match=f"new: renamed; gone: {FEW[0]}"):
        run(job, folder, Watching())


def test_a_test_label_that_nobody_learned_is_refused(tmp_path):
    write_data(tmp_path, 60)
    write_rows(tmp_path / "test.csv", [("cancel it", FEW[0] + "x")])
    with pytest.raises(TrafficError, match=FEW[0] + "x"):
        run(small_job(), tmp_path, Watching())


def test_a_teacher_that_is_nowhere_is_refused_before_anything_is_trained(tmp_path):
    write_data(tmp_path, 60)
    job = small_job()
    with pytest.raises(ConfigError, match="no folder"):
        run(
            msgspec.structs.replace(job, teacher=msgspec.structs.replace(job.teacher, path="nowhere")),
            tmp_path,
            Watching(),
        )
