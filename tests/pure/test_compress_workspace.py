"""The workspace and the artefact's folder: complete or not there, whatever kills the run, whatever fails."""

import errno
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from farthing.compress import artefact as artefact_module
from farthing.compress import workspace as workspace_module
from farthing.compress.artefact import copy_artefact, write_artefact
from farthing.compress.workspace import DONE, Workspace, chained, hashes, write_whole, writing
from farthing.engines.artefacts import read_artefact
from farthing.errors import ConfigError, Unavailable
from farthing.schema import Artefact

KEY = chained("", "data")
PLAIN = Artefact("bank", "classification", ("a", "b"), 16, {})
FILES = {"model.onnx": b"weights", "tokenizer.json": b"{}", "report.json": b"[]"}


class Notes(list):
    def __call__(self, text: str) -> None:
        self.append(text)


def make(part: Path) -> None:
    (part / "inner").mkdir()
    (part / "weights.bin").write_bytes(b"w" * 1000)
    (part / "inner" / "log.json").write_text("{}")


def never(part: Path) -> None:
    raise AssertionError("this was finished before")


def test_a_stage_is_made_once_and_kept_with_the_hash_of_every_file(tmp_path):
    notes = Notes()
    with Workspace(tmp_path / "a" / "b", notes) as work:
        folder = work.stage("distil", KEY, make)
        assert json.loads((folder / DONE).read_text())["files"].keys() == {"weights.bin", "inner/log.json"}
    with Workspace(tmp_path / "a" / "b", notes) as work:
        assert work.stage("distil", KEY, never) == folder
    assert notes == ["distil was finished before; it is kept."]


def test_keys_chain_so_that_a_later_change_keeps_what_came_before(tmp_path):
    teacher, distil = chained("", {"epochs": 3}, "data"), {"layers": 2}
    assert chained(teacher, distil) == chained(teacher, {"layers": 2})
    assert len({chained(teacher, distil), chained(teacher, {"layers": 3}), chained("", distil), teacher}) == 4
    with Workspace(tmp_path, Notes()) as work:
        work.stage("teacher", teacher, make)
        first = work.stage("distil", chained(teacher, distil), make)
        second = work.stage("distil", chained(teacher, {"layers": 3}), make)
        assert first != second
        work.stage("teacher", teacher, never)
        work.stage("distil", chained(teacher, distil), never)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "weights.bin").write_bytes(b"v" * 1000), "weights.bin is not as it was written"),
        (lambda folder: (folder / "inner" / "log.json").unlink(), "inner/log.json is gone"),
        (lambda folder: (folder / "more").write_text(""), "more does not belong there"),
        (lambda folder: (folder / DONE).write_text("{"), "done.json cannot be read"),
        (lambda folder: (folder / DONE).unlink(), "done.json cannot be read"),
        (lambda folder: (folder / DONE).write_text('{"name": "x", "digest": "y", "files": {}}'), "of another stage"),
    ],
)
def test_what_was_damaged_is_told_and_done_again(tmp_path, spoil, said):
    notes = Notes()
    with Workspace(tmp_path, notes) as work:
        spoil(work.stage("prune", KEY, make))
        folder = work.stage("prune", KEY, make)
        assert said in notes[0]
        assert (folder / "weights.bin").read_bytes() == b"w" * 1000
        assert work.stage("prune", KEY, never) == folder


def test_what_fails_leaves_nothing_but_its_scratch(tmp_path):
    def fail(part: Path) -> None:
        make(part)
        raise ZeroDivisionError

    with Workspace(tmp_path, Notes()) as work:
        (work.scratch("distil", KEY) / "resume.pt").write_text("epoch 3")
        with pytest.raises(ZeroDivisionError):
            work.stage("distil", KEY, fail)
        assert {path.name for path in tmp_path.iterdir()} == {"lock", work.scratch("distil", KEY).name}
        assert (work.scratch("distil", KEY) / "resume.pt").read_text() == "epoch 3"
        work.stage("distil", KEY, make)
        assert len(list(tmp_path.iterdir())) == 2


def test_two_runs_at_once_are_refused_with_the_process(tmp_path):
    with Workspace(tmp_path, Notes()), pytest.raises(ConfigError, match=rf"process {os.getpid()}\) is at work in"):
        Workspace(tmp_path, Notes()).__enter__()
    with Workspace(tmp_path, Notes()):
        pass


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path):
    child = os.fork()
    if not child:
        Workspace(tmp_path, Notes()).__enter__()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    with Workspace(tmp_path, Notes()):
        pass


def test_other_labels_than_those_the_run_began_with_are_refused(tmp_path):
    with Workspace(tmp_path, Notes()) as work:
        work.hold_to(("a", "b"))
        work.hold_to(("a", "b"))
        with pytest.raises(ConfigError, match=r"new: c; gone: b \(2 then, 2 now\)") as caught:
            work.hold_to(("a", "c"))
        assert "--anew" in caught.value.hint
        with pytest.raises(ConfigError, match="their order differs"):
            work.hold_to(("b", "a"))
        work.stage("teacher", KEY, make)
        work.forget()
        work.hold_to(("a", "c"))
        assert {path.name for path in tmp_path.iterdir()} == {"lock", "labels.json"}


def test_a_full_disk_is_told_in_megabytes_and_leaves_nothing(tmp_path):
    def fill(part: Path) -> None:
        (part / "big").write_bytes(b"x" * 2_000_000)
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")

    with Workspace(tmp_path, Notes()) as work:
        with pytest.raises(Unavailable, match=r"The disk is full: 2\.0 MB of .* had been written, it needs more, and"):
            work.stage("distil", KEY, fill)
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_other_failures_of_the_system_are_not_taken_for_a_full_disk(tmp_path):
    with pytest.raises(OSError, match="odd"), writing(tmp_path):
        raise OSError(errno.EIO, "odd")
    with pytest.raises(RuntimeError, match="shape"), writing(tmp_path):
        raise RuntimeError("shape")


def test_where_nothing_may_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"), Workspace(tmp_path / "file", Notes()):
        pass


def test_an_artefact_is_written_with_the_hash_of_every_file(tmp_path):
    source = tmp_path / "m.onnx"
    source.write_bytes(b"weights")
    written = write_artefact(tmp_path / "out", {**FILES, "model.onnx": source}, PLAIN)
    assert written.files.keys() == FILES.keys()
    assert read_artefact(tmp_path / "out") == written
    assert {path.name for path in tmp_path.iterdir()} == {"out", "m.onnx"}


def test_an_artefact_is_replaced_and_anything_else_is_not(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    write_artefact(out, FILES, PLAIN)
    write_artefact(out, {**FILES, "model.onnx": b"newer"}, PLAIN)
    assert (out / "model.onnx").read_bytes() == b"newer"
    (out / "thesis.txt").write_text("ten years")
    with pytest.raises(ConfigError, match=r"not of its artefact and would be lost: thesis\.txt"):
        write_artefact(out, FILES, PLAIN)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("ten years")
    with pytest.raises(ConfigError, match=r"is no artefact: it holds thesis\.txt"):
        write_artefact(tmp_path / "home", FILES, PLAIN)
    with pytest.raises(ConfigError, match="is a file"):
        write_artefact(out / "thesis.txt", FILES, PLAIN)
    (out / "thesis.txt").unlink()
    (out / "artefact.json").write_text("{")
    with pytest.raises(ConfigError) as caught:
        write_artefact(out, FILES, PLAIN)
    assert "move what is there" in caught.value.hint


def test_too_little_room_is_told_before_anything_is_written(tmp_path):
    huge = tmp_path / "huge"
    with huge.open("wb") as opened:
        opened.truncate(8 * 10**12)
    with pytest.raises(Unavailable, match=r"needs 8,000,000\.0 MB, and [\d,.]+ MB are free"):
        write_artefact(tmp_path / "out", {**FILES, "model.onnx": huge}, PLAIN)
    assert [path.name for path in tmp_path.iterdir()] == ["huge"]


def test_a_copy_is_proven_and_what_is_damaged_is_not_copied(tmp_path):
    write_artefact(tmp_path / "one", FILES, PLAIN)
    assert copy_artefact(tmp_path / "one", tmp_path / "deep" / "two") == read_artefact(tmp_path / "deep" / "two")
    with pytest.raises(ConfigError, match="onto itself"):
        copy_artefact(tmp_path / "one", tmp_path / "deep" / ".." / "one")
    (tmp_path / "one" / "model.onnx").write_bytes(b"spoilt")
    with pytest.raises(ConfigError, match=r"model\.onnx is not the file"):
        copy_artefact(tmp_path / "one", tmp_path / "three")
    assert not (tmp_path / "three").exists()


def killed_at(line: int, act) -> bool:
    """Whether a process that does this was killed, when it came to so many lines of the modules under test."""
    files = {workspace_module.__file__, artefact_module.__file__}
    child = os.fork()
    if not child:
        count = 0

        def each_line(frame, event, argument):
            nonlocal count
            count += event == "line"
            if count == line:
                os.kill(os.getpid(), signal.SIGKILL)
            return each_line

        sys.settrace(lambda frame, event, argument: each_line if frame.f_code.co_filename in files else None)
        act()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_a_run_killed_at_any_line_goes_on_and_never_shows_half_a_stage(tmp_path):
    def act():
        with Workspace(tmp_path / "work", Notes()) as work:
            work.hold_to(("a", "b"))
            work.scratch("teacher", KEY)
            work.stage("teacher", KEY, make)

    line, place = 0, tmp_path / "work" / f"teacher-{KEY[:16]}"
    whole = {"weights.bin", "inner/log.json", DONE}
    while True:
        line += 7
        died = killed_at(line, act)
        assert not place.exists() or hashes(place).keys() == whole
        with Workspace(tmp_path / "work", Notes()) as work:
            work.hold_to(("a", "b"))
            assert hashes(work.stage("teacher", KEY, make)).keys() == whole
            assert {path.name for path in work.folder.iterdir()} == {"lock", "labels.json", place.name}
            work.forget()
        if not died:
            break
    assert line > 70


def test_an_artefact_killed_at_any_line_is_the_old_or_the_new_one(tmp_path):
    out, line = tmp_path / "out", 0
    old = write_artefact(out, FILES, PLAIN)
    new = {**FILES, "model.onnx": b"newer"}
    while True:
        line += 5
        died = killed_at(line, lambda: write_artefact(out, new, PLAIN))
        if out.exists():
            assert read_artefact(out).files["model.onnx"] in (old.files["model.onnx"], hashes(out)["model.onnx"])
        assert write_artefact(out, FILES, PLAIN) == old
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        if not died:
            break
    assert line > 50


def test_a_file_is_written_as_a_whole(tmp_path):
    write_whole(tmp_path / "a.json", b"one")
    write_whole(tmp_path / "a.json", b"two")
    assert (tmp_path / "a.json").read_bytes() == b"two"
    assert len(list(tmp_path.iterdir())) == 1
