"""A job whose sizes are searched for: timed first, trained rung by rung, here and on Ray."""

import os
import shutil
import socket
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import transformers
from compress_sample import STAGES, Killed, Watching, small_job, write_data
from msgspec.structs import replace

from farthing.compress.data.material import read_material
from farthing.compress.job import Distil, Machine, Prune, Search, Targets, Teacher
from farthing.compress.networks.keeping import load_encoder
from farthing.compress.networks.scratch import learned_tokenizer
from farthing.compress.pipeline import located, run, setting_of
from farthing.compress.searching.bench import Bench
from farthing.compress.searching.sizes import Size
from farthing.compress.searching.trying import searched
from farthing.compress.spreading import Alone, team
from farthing.compress.workspace import Workspace
from farthing.errors import ConfigError, TrafficError, Unavailable

pytestmark = pytest.mark.timeout(600)  # it trains

SEARCH = Search(trials=3, rungs=2)
TARGETS = Targets(lost=100.0, recall_lost=100.0)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@contextmanager
def bench_in(folder, watching, **changed):
    job = small_job(**{"search": SEARCH, "targets": TARGETS, "machine": Machine(threads=0), **changed})
    material = read_material(job, folder)
    with Workspace(folder / "compressed.work", watching.note) as workspace:
        yield Bench(setting_of(job, material, watching), material, workspace, located(job.teacher.path, folder))


def search(folder, watching, **changed):
    with bench_in(folder, watching, **changed) as bench:
        return searched(bench)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A folder in which a search has run, what it found, and what it told."""
    folder, watching = tmp_path_factory.mktemp("search"), Watching()
    write_data(folder, 300)
    return folder, search(folder, watching), watching


def copied(found, tmp_path):
    shutil.copytree(found[0], tmp_path / "again")
    return tmp_path / "again"


def test_sizes_are_timed_then_trained_and_one_is_chosen(found):
    folder, (job, trials), watching = found

    assert len(trials) == len({trial.name for trial in trials}) == 3
    assert sorted(trial.rung for trial in trials) == [0, 1, 1]
    assert all(trial.value > 0 and trial.mb > 0 and trial.cpu_ms > 0 for trial in trials)
    (taken,) = [trial for trial in trials if trial.chosen]
    assert taken.rung == 1
    last = [trial for trial in trials if trial.rung == 1]
    assert taken.cpu_ms == min(trial.cpu_ms for trial in last), "all keep a floor of 100 points"
    assert any("sizes that were timed meet the targets" in note for note in watching.notes)
    assert not list((folder / "compressed.work").glob("*scratch*"))
    assert job.stages[-1] == STAGES[-1]


def test_the_line_that_follows_finds_the_chosen_trial_finished(found, tmp_path):
    stages, watching = found[1][0].stages, Watching()
    with bench_in(copied(found, tmp_path), watching, stages=stages) as bench:
        teacher = bench.teacher()
        rows, stand = [bench.row(teacher, teacher)], teacher
        for number, stage in enumerate(stages[:2], 1):
            stand = bench.through(stage, number, stand, teacher, rows)

    assert watching.steps == 0
    assert {note.split()[0] for note in watching.notes if note.endswith("it is kept.")} == {
        "teacher",
        "1-distil",
        "2-prune",
    }


def test_trials_are_of_the_sizes_that_they_are_called(found):
    kept = [load_encoder(path).encoder.shape for path in (found[0] / "compressed.work").glob("2-prune-*")]
    assert {named(shape) for shape in kept} == {trial.name for trial in found[1][1]}


def test_a_search_that_was_finished_is_not_done_again(found, tmp_path):
    folder, again = copied(found, tmp_path), Watching()
    assert search(folder, again) == found[1]
    assert again.steps == 0


@pytest.fixture(scope="module")
def timed(found, tmp_path_factory):
    """A folder in which a search has timed its sizes, and trained none of them; the steps that are left."""
    folder, watching = copied(found, tmp_path_factory.mktemp("timed")), Watching()
    forget_trials(folder)
    assert search(folder, watching) == found[1]
    forget_trials(folder)
    return folder, watching.steps


def forget_trials(folder):
    for place in (folder / "compressed.work").glob("[12]-*"):
        shutil.rmtree(place)


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_search_that_is_killed_goes_on_and_ends_the_same(found, timed, tmp_path, share):
    folder, again = copied(timed, tmp_path), Watching()
    assert 0 < timed[1] < found[2].steps
    with pytest.raises(Killed):
        search(folder, Watching(kill_at=int(share * timed[1])))

    assert search(folder, again) == found[1]
    assert 0 < again.steps < timed[1]


class Counting(Alone):
    """Counts what is done."""

    calls = 0

    def each(self, do, calls):
        self.calls += len(calls)
        yield from super().each(do, calls)


def test_lines_that_begin_with_the_same_distillation_share_it(timed, tmp_path):
    folder, workers = copied(timed, tmp_path), Counting()
    same, other = Distil(layers=1, embedding=16, epochs=0), Distil(layers=1, embedding=8, epochs=0)
    prunings = [Prune(heads=1, epochs=0), Prune(ffn=64, epochs=0)]
    with bench_in(folder, Watching()) as bench:
        bench.workers = workers
        lines = [(same, prunings[0]), (same, prunings[1]), (other, prunings[0]), (same, prunings[0])]
        stands = bench.through_all(lines)
        assert workers.calls == 2 + 3
        assert [stand.key for stand in bench.through_all(lines)] == [stand.key for stand in stands]
        assert workers.calls == 2 + 3

    assert [stand.kept.encoder.shape.embedding for stand in stands] == [16, 16, 8, 16]
    assert [stand.kept.encoder.shape.layers[0].heads for stand in stands] == [1, 2, 1, 1]


def test_sizes_that_miss_the_targets_are_not_trained(found, tmp_path):
    folder, watching = copied(found, tmp_path), Watching()
    limit = sorted(trial.mb for trial in found[1][1])[1]

    _, trials = search(folder, watching, targets=replace(TARGETS, size_mb=limit))

    assert all(trial.mb <= limit for trial in trials)


def test_targets_that_no_size_meets_are_refused_before_anything_is_trained(found, tmp_path):
    folder, watching = copied(found, tmp_path), Watching()
    with pytest.raises(
        ConfigError, match=r"None of 9 sizes meets the targets. The cheapest, 1 layer, .*; at least 1000 is asked"
    ):
        search(folder, watching, targets=replace(TARGETS, smaller=1000.0))
    assert watching.steps == 0


def test_the_most_accurate_is_taken_where_none_keeps_the_floor(found, tmp_path):
    folder = copied(found, tmp_path)
    stages = (replace(STAGES[0], epochs=0), replace(STAGES[1], epochs=0), STAGES[2])
    _, trials = search(folder, Watching(), stages=stages, targets=Targets(lost=0.0), search=Search(trials=3, rungs=1))
    (taken,) = [trial for trial in trials if trial.chosen]
    assert taken.value == max(trial.value for trial in trials)


def test_ray_that_is_not_installed_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'farthing\[ray\]'"):
        team("ray")


def test_a_cluster_that_does_not_answer_is_an_error_at_once(monkeypatch):
    pytest.importorskip("ray", reason="needs Ray: pip install 'farthing[ray]'")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{taken.getsockname()[1]}")  # nobody listens
        with pytest.raises(Unavailable, match="does not answer"), team("ray"):
            pass


@pytest.fixture(scope="module")
def cluster():
    """A cluster that is there before the search, as others have."""
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'farthing[ray]'")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200_000_000)
    yield ray
    ray.shutdown()


def test_a_search_on_ray_finds_what_one_here_finds(found, timed, tmp_path, cluster):
    folder = copied(timed, tmp_path)

    job, trials = search(folder, Watching(), search=replace(SEARCH, engine="ray"))

    assert trials == found[1][1]
    assert job.stages == found[1][0].stages
    assert cluster.is_initialized(), "a cluster that was there before stays"


def test_what_a_task_raises_is_raised_here(cluster):
    def refused(number):
        raise TrafficError(f"row {number} cannot be read.", hint="Correct it.")

    def broken(number):
        raise ZeroDivisionError(number)

    with team("ray") as workers:
        with pytest.raises(TrafficError, match=r"^row 3 cannot be read\. Correct it\.$") as raised:
            list(workers.each(refused, [(3,)]))
        assert raised.value.hint == "Correct it."
        with pytest.raises(ZeroDivisionError, match="7"):
            list(workers.each(broken, [(7,)]))


def test_a_worker_that_dies_every_time_is_an_error_that_says_how_to_go_on(cluster):
    def dies():
        os._exit(1)

    with team("ray") as workers, pytest.raises(Unavailable, match="it goes on with the trials"):
        list(workers.each(dies, [()]))


def test_workers_that_lack_what_is_here_are_an_error_that_says_so(cluster, tmp_path):
    said = r"cannot begin: ModuleNotFoundError: No module named 'compress_sample'\. .* on every machine"
    with team("ray") as workers, pytest.raises(ConfigError, match=said):
        list(workers.each(write_data, [(tmp_path,)]))  # of a module that is on pytest's path alone


def test_results_come_as_they_are_ready_and_what_is_left_is_called_off(cluster, tmp_path):
    def waits(seconds):
        time.sleep(seconds)
        (tmp_path / str(seconds)).touch()
        return seconds

    with team("ray") as workers:
        found = workers.each(waits, [(workers.share(3.0),), (0.0,)])
        assert next(found) == (1, 0.0)
    time.sleep(3.5)
    assert [path.name for path in tmp_path.iterdir()] == ["0.0"]


def electra(folder):
    """A tiny model of an architecture that students cannot be cut from."""
    rows = (folder / "train.csv").read_text().splitlines()
    tokenizer = learned_tokenizer([row.rpartition(",")[0] for row in rows[1:]], 32)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    config = transformers.ElectraConfig(vocab_size=tokenizer.get_vocab_size(), embedding_size=16, **sizes)
    (folder / "electra").mkdir()
    transformers.AutoModel.from_config(config).save_pretrained(folder / "electra")
    tokenizer.save(str(folder / "electra" / "tokenizer.json"))
    return Teacher(path="electra", epochs=1)


@pytest.mark.parametrize("kind", ["ensemble", "another architecture"])
def test_students_of_any_teacher_are_of_the_sizes_that_were_timed(tmp_path, kind):
    write_data(tmp_path, 150)
    teacher = Teacher(layers=2, width=64, epochs=1, members=2) if kind == "ensemble" else electra(tmp_path)
    stages = (Distil(layers=1, width=32, embedding=16, epochs=1), Prune(heads=1, epochs=1))

    _, trials = search(tmp_path, Watching(), teacher=teacher, stages=stages, search=Search(trials=3, rungs=1))

    kept = [load_encoder(path).encoder.shape for path in (tmp_path / "compressed.work").glob("2-prune-*")]
    assert sorted(named(shape) for shape in kept) == sorted(trial.name for trial in trials)


def named(shape):
    (layer, *_) = shape.layers
    return Size(len(shape.layers), layer.heads, layer.ffn, shape.width, shape.embedding).name


def test_a_job_that_searches_shows_all_trials_and_serves_the_chosen_one(timed, tmp_path):
    folder = copied(timed, tmp_path)
    job = small_job(search=SEARCH, targets=TARGETS, machine=Machine(threads=0))

    assert run(job, folder, Watching(), until="teacher").trials == ()
    report = run(job, folder, Watching())

    (taken,) = [trial for trial in report.trials if trial.chosen]
    assert len(report.trials) == 3
    assert report.rows[2].dev.value == taken.value
    assert report.final.mb == pytest.approx(taken.mb, rel=0.02)
    assert taken.name in (folder / "compressed" / "report.html").read_text()


def test_a_teacher_of_several_members_is_the_same_when_ray_trains_them(tmp_path, cluster):
    write_data(tmp_path, 150)
    teacher = Teacher(layers=1, width=32, epochs=1, members=2)
    stands = []
    for engine in ("local", "ray"):
        folder = tmp_path / engine
        shutil.copytree(tmp_path, folder, ignore=shutil.ignore_patterns("local", "ray"))
        with bench_in(folder, Watching(), teacher=teacher) as bench, team(engine) as bench.workers:
            stands.append(bench.teacher())
    assert np.array_equal(*(stand.examined.outputs for stand in stands))
