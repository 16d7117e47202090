"""Reading examples: every format gives the same ones, every fault names its line, and no measure leaks into training."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.compress.data.material import read_material
from farthing.compress.data.reading import read_examples, read_texts, split, without
from farthing.compress.examples import Examples
from farthing.compress.job import Augment, Data, Job, Teacher
from farthing.errors import TrafficError
from farthing.schema import Recorded, write_recorded

ROWS = [("where is my card", "card"), ("it says, \"lost\"\nand gone", "card"), ("send money", "transfer"), ("pay", "transfer")]  # fmt: skip
BANKING = Path(__file__).parents[2].parent / "shared" / "data" / "banking77"


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def csv_text(rows=ROWS, head="text,label") -> str:
    return (
        "\r\n".join([head, *(",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows)]) + "\r\n"
    )


def write(folder: Path, name: str, content: str | bytes) -> str:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def json_lines(*rows: dict) -> str:
    return "\n".join(map(json.dumps, rows)) + "\n"


def examples(folder: Path, *files: str, task="classification", labels=None, **data):
    return read_examples(Data(train=files, **data), files, task, folder, labels)


def refusal(folder: Path, *files: str, **more) -> TrafficError:
    with pytest.raises(TrafficError) as caught:
        examples(folder, *files, **more)
    assert caught.value.hint or "\n" in caught.value.message or "did you mean" in caught.value.message
    return caught.value


def chat(text: str, answer: str, **more) -> Recorded:
    body = {"model": "big", "messages": [{"role": "system", "content": "classify"}, {"role": "user", "content": text}]}
    reply = {"choices": [{"message": {"role": "assistant", "content": answer}}]}
    return Recorded(
        at=1, model="big", request=msgspec.Raw(json.dumps(body).encode()), reply=msgspec.Raw(json.dumps(reply).encode()), **more
    )  # fmt: skip


def traffic(*records: Recorded) -> bytes:
    return b"\n".join(map(write_recorded, records)) + b"\n"


def test_every_format_gives_the_same_examples(folder):
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    parquet.write_table(
        arrow.table({"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}), folder / "p.parquet"
    )
    files = (
        write(folder, "c.csv", csv_text()),
        write(folder, "b.csv", b"\xef\xbb\xbf" + csv_text().encode()),
        write(folder, "t.tsv", csv_text().replace('","', '"\t"').replace("text,label", "text\tlabel")),
        write(folder, "j.jsonl", json_lines(*({"text": text, "label": label, "x": 1} for text, label in ROWS))),
        "p.parquet",
    )
    for file in files:
        found = examples(folder, file)
        assert (found.examples.texts, found.labels) == (tuple(text for text, _ in ROWS), ("card", "transfer")), file
        assert found.examples.targets.tolist() == [0, 0, 1, 1]
        assert (found.warnings, found.alone) == ((), "")


def test_several_files_are_read_one_after_the_other(folder):
    files = (write(folder, "a.csv", csv_text(ROWS[:2])), write(folder, "b.csv", csv_text(ROWS[2:])))
    assert examples(folder, *files).examples.texts == tuple(text for text, _ in ROWS)


def test_columns_have_the_names_the_job_gives_them(folder):
    file = write(folder, "a.csv", csv_text(head="utterance, intent"))
    assert examples(folder, file, text="utterance", label="intent").labels == ("card", "transfer")


def test_numbers_and_truth_values_are_labels_too(folder):
    file = write(folder, "a.jsonl", json_lines({"text": "a", "label": 1}, {"text": "b", "label": True}, {"text": "c", "label": 1}))  # fmt: skip
    assert examples(folder, file).labels == ("1", "true")


@pytest.mark.parametrize(
    ("content", "place", "what"),
    [
        ("text,lable\nhello,a\n", "line 2", 'there is no column "label". Did you mean "lable"?'),
        ("text,label\nhello,a\nbye,\n", "line 3", "the label is missing."),
        ("text,label\nhello,a\n  ,b\n", "line 3", 'the text in "text" is empty.'),
        ('text,label\n"two\nlines",a\n\nhello,b,c\n', "line 5", "there are 3 cells, and the header has 2 columns."),
        ('text,label\nhello,a\n"never closed,b\nmore,c\n', "line 3", "this is not CSV: unexpected end of data."),
        ("text,text,label\na,b,c\n", "line 1", 'two columns are named "text".'),
        (b"text,label\nhello,a\ncaf\xe9,b\n", "line 3", "byte 4 of the line is not UTF-8 (0xe9)."),
        (f"text,label\nhello,a\n{'x' * 1_000_001},b\n", "line 3", "a cell is larger than 1 MB."),
        (f"text,label\nhello,a\n{'é' * 500_001},b\n", "line 3", "the text is 1.0 MB long; 1 MB is the most."),
    ],
)
def test_a_fault_in_csv_names_its_line(folder, content, place, what):
    error = refusal(folder, write(folder, "a.csv", content))
    assert f"{folder / 'a.csv'}, {place}: {what}" in f"{error.message} {error.hint}"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"text": "a"}', 'there is no column "label".'),
        ('{"text": "a", "label": null}', "the label is missing."),
        ('{"text": 3, "label": "b"}', '"text" holds int, and not text.'),
        ('{"text": "a", "label": ["b"]}', 'the label is ["b"]; expected one text.'),
        ('{"text": "a", "label": NaN}', "this is not JSON"),
        ('["a", "b"]', "this is not a JSON object."),
        ('{"text": "a", ', "this is not JSON"),
        ('{"text": "' + "x" * 1_000_001 + '", "label": "b"}', "the text is 1.0 MB long"),
    ],
)
def test_a_fault_in_json_lines_names_its_line(folder, line, what):
    error = refusal(folder, write(folder, "a.jsonl", '\n{"text": "ok", "label": "a"}\n' + line + "\n"))
    assert error.message.startswith(f"{folder / 'a.jsonl'}, line 3: {what}")


def test_text_that_is_no_utf8_in_json_lines_names_its_line(folder):
    error = refusal(folder, write(folder, "a.jsonl", b'{"text": "ok", "label": "a"}\n{"text": "\xff", "label": "a"}\n'))
    assert "line 2: byte 11 of the line is not UTF-8 (0xff)" in error.message


def test_what_cannot_be_opened_or_has_no_format_is_refused(folder):
    assert "absent.csv cannot be read: No such file" in refusal(folder, "absent.csv").message
    error = refusal(folder, write(folder, "a.xlsx", "x"))
    assert ".parquet" in error.hint
    assert "is not Parquet" in refusal(folder, write(folder, "a.parquet", "x")).message
    assert "there are no examples" in refusal(folder, write(folder, "a.csv", "text,label\n")).message
    assert "there are no examples" in refusal(folder, write(folder, "b.jsonl", "")).message


def test_texts_up_to_1_mb_are_taken_with_a_warning(folder):
    file = write(folder, "a.csv", csv_text([("x" * 999_999, "a"), ("y" * 10_001, "b"), ("z" * 10_000, "b")]))
    found = examples(folder, file)
    assert [len(text) for text in found.examples.texts] == [999_999, 10_001, 10_000]
    assert found.warnings[0].startswith("2 texts are longer than 10,000 characters")


def test_of_a_text_with_two_labels_the_first_is_kept_and_both_are_told(folder):
    rows = [("a", "x"), ("b", "y"), ("a", "y"), ("a", "x"), ("b", "x")]
    found = examples(folder, write(folder, "a.csv", csv_text(rows)))
    assert found.examples.texts == ("a", "b", "a")
    assert found.examples.targets.tolist() == [0, 1, 0]
    assert found.warnings == (
        f"2 texts come again with another label and were left out, the first being kept: 'a' is 'x' "
        f"({folder / 'a.csv'}, line 2) and 'y' ({folder / 'a.csv'}, line 4).",
    )


def test_labels_that_were_not_learned_are_refused_with_the_nearest(folder):
    file = write(
        folder, "a.csv", csv_text([("a", "card_arival"), ("b", "card_arival"), ("c", "zzz"), ("d", "transfer")])
    )
    error = refusal(folder, file, labels=("card_arrival", "transfer"))
    assert error.message.splitlines() == [
        f'{folder / "a.csv"}, line 2: the label "card_arival" (2 times) is not among those learned; did you mean "card_arrival"?',
        f'{folder / "a.csv"}, line 4: the label "zzz" (1 times) is not among those learned',
    ]


def test_one_label_alone_leaves_nothing_to_tell_apart(folder):
    assert 'every example has the label "a"' in refusal(folder, write(folder, "a.csv", csv_text([("x", "a"), ("y", "a")]))).message  # fmt: skip


def test_several_labels_to_a_text_come_from_a_separator_or_a_list(folder):
    one = write(folder, "a.csv", csv_text([("x", "b; a"), ("y", ""), ("z", "a;a")]))
    other = write(folder, "a.jsonl", json_lines({"text": "x", "label": ["b", "a"]}, {"text": "y", "label": []}, {"text": "z", "label": "a"}))  # fmt: skip
    for file in (one, other):
        found = examples(folder, file, task="multi-label", separator=";")
        assert found.labels == ("a", "b")
        assert found.examples.targets.dtype == np.float32
        assert found.examples.targets.tolist() == [[1, 1], [0, 0], [1, 0]]
    absent = write(folder, "n.jsonl", json_lines({"text": "x", "label": None}))
    assert "the labels are missing" in refusal(folder, absent, task="multi-label").message


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e39", "1,5", "", "abc"])
def test_a_target_that_is_no_finite_number_is_refused(folder, number):
    error = refusal(folder, write(folder, "a.csv", csv_text([("x", "0.5"), ("y", number)])), task="regression")
    assert ", line 3: " in error.message


def test_targets_of_a_regression_are_numbers(folder):
    found = examples(folder, write(folder, "a.csv", csv_text([("x", "0.5"), ("y", "-2e3")])), task="regression")
    assert found.labels == ("label",)
    assert found.examples.targets.dtype == np.float32
    assert found.examples.targets.tolist() == [0.5, -2000]


def test_pairs_have_second_texts(folder):
    file = write(folder, "a.csv", csv_text([("q", "d", "1"), ("q", "e", "0")], head="text,doc,label"))
    found = examples(folder, file, task="regression", second="doc")
    assert (found.examples.texts, found.examples.seconds) == (("q", "q"), ("d", "e"))
    assert found.warnings == ()
    empty = write(folder, "b.csv", csv_text([("q", " ", "1")], head="text,doc,label"))
    assert 'the text in "doc" is empty' in refusal(folder, empty, task="regression", second="doc").message


def test_spans_are_kept_in_characters(folder):
    row = {"text": "to Bern by train", "spans": [{"start": 3, "end": 7, "label": "place"}, {"start": 11, "end": 16, "label": "means"}]}  # fmt: skip
    found = examples(folder, write(folder, "a.jsonl", json_lines(row, {"text": "no", "spans": []})), task="tagging")
    assert found.labels == ("means", "place")
    assert found.examples.targets == (((3, 7, 1), (11, 16, 0)), ())


@pytest.mark.parametrize(
    ("spans", "what"),
    [
        ([{"start": 0, "end": 99, "label": "a"}], "the span 0 to 99 is not within the text, which has 5 characters"),
        ([{"start": 2, "end": 2, "label": "a"}], "the span 2 to 2 is not within"),
        ([{"start": 0, "end": 3, "label": "a"}, {"start": 2, "end": 4, "label": "b"}], "the span 2 to 4 overlaps"),
        ([{"start": 0, "end": 3, "label": " "}], "the span 0 to 3 has no label"),
        ([{"start": 0, "label": "a"}], "the spans cannot be read: Object missing required field `end`"),
        ("here", "the spans cannot be read"),
        (None, "the spans cannot be read"),
    ],
)
def test_spans_that_do_not_fit_are_refused(folder, spans, what):
    file = write(folder, "a.jsonl", json_lines({"text": "hello", "spans": spans}))
    assert f"line 1: {what}" in refusal(folder, file, task="tagging").message


def test_traffic_gives_the_last_user_message_and_the_answer(folder):
    records = [
        chat("lost card", "card"),
        chat("gone card", ' "card". '),
        chat("send", "transfer"),
        chat("send it", "transfer"),
        chat("hm", "I am not sure about this one"),
        chat("failed", "card", status=500),
        chat("no answer", ""),
        Recorded(at=1, model="big"),
    ]
    found = examples(folder, write(folder, "t.jsonl", traffic(*records)))
    assert found.examples.texts == ("lost card", "gone card", "send", "send it")
    assert found.labels == ("card", "transfer")
    assert set(found.warnings) == {
        "5 exchanges of recorded traffic are examples, labelled by the answers of big 100 %.",
        "1 exchanges were left out: ended in an error.",
        "1 exchanges were left out: without a recorded body.",
        "1 exchanges were left out: without a text in answer.",
        '1 answers that are no labels were left out, such as "I am not sure about this one".',
    }


@pytest.mark.parametrize(
    ("endpoint", "request_body", "reply"),
    [
        ("chat", {"messages": [{"role": "user", "content": [{"type": "text", "text": "old"}]}, {"role": "assistant", "content": "x"}, {"role": "user", "content": [{"type": "text", "text": "hello"}]}]}, {"choices": [{"message": {"content": "yes"}}]}),
        ("responses", {"input": "hello"}, {"output": [{"type": "reasoning"}, {"type": "message", "content": [{"type": "output_text", "text": "yes"}]}]}),
        ("responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}]}, {"output": [{"type": "message", "content": [{"type": "output_text", "text": "yes"}]}]}),
        ("messages", {"messages": [{"role": "user", "content": "hello"}]}, {"content": [{"type": "text", "text": "yes"}]}),
        ("completions", {"prompt": "hello"}, {"choices": [{"text": "yes"}]}),
    ],
)  # fmt: skip
def test_traffic_is_understood_in_every_dialect(folder, endpoint, request_body, reply):
    raw = (msgspec.Raw(json.dumps(body).encode()) for body in (request_body, reply))
    record = Recorded(1, "m", endpoint, request=next(raw), reply=next(raw))
    found = examples(folder, write(folder, "t.jsonl", traffic(record, record)), labels=("yes",))
    assert found.examples.texts == ("hello", "hello")


def test_answers_in_traffic_that_are_no_labels_are_left_out_of_a_measure(folder):
    file = write(folder, "t.jsonl", traffic(chat("a", "card"), chat("b", "transfer"), chat("c", "cannot say")))
    assert examples(folder, file, labels=("card", "transfer")).examples.texts == ("a", "b")
    with pytest.raises(TrafficError, match="2 of 3 answers are none of the labels learned"):
        examples(folder, file, labels=("card",))


def test_traffic_in_parquet_is_traffic_too(folder):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    records = [chat("a", "x"), chat("b", "x"), chat("c", "y"), chat("d", "y"), Recorded(at=1, model="big")]
    columns = {
        "at": [record.at for record in records],
        "model": [record.model for record in records],
        "request": [bytes(record.request).decode() or None for record in records],
        "reply": [bytes(record.reply).decode() or None for record in records],
    }
    parquet.write_table(arrow.table(columns), folder / "t.parquet")
    assert examples(folder, "t.parquet").labels == ("x", "y")


def test_traffic_without_bodies_or_without_labels_is_refused(folder):
    bare = write(folder, "bare.jsonl", traffic(Recorded(at=1, model="m"), Recorded(at=2, model="m")))
    error = refusal(folder, bare)
    assert "no examples (2 without a recorded body)" in error.message
    assert "ledger.bodies = true" in error.hint
    free = write(folder, "free.jsonl", traffic(*(chat(f"q{i}", f"a long answer {i}") for i in range(9))))
    assert "9 of 9 answers were given a single time" in refusal(folder, free).message


def test_unlabeled_texts_need_no_label_and_come_once(folder):
    files = (write(folder, "u.txt", "\ufeffone\n\n two \r\none\n"), write(folder, "u.csv", "text\nthree\n \n"))
    found = read_texts(Data(train=()), files, folder)
    assert found.examples.texts == ("one", " two ", "three")
    assert found.warnings == ("1 empty texts of u.txt, u.csv were left out.",)


texts = st.lists(st.tuples(st.text("abc", min_size=1, max_size=2), st.integers(0, 3)), min_size=2, max_size=40)


@settings(max_examples=80)
@given(texts, st.floats(0.05, 0.9), st.integers(0, 5), st.booleans())
def test_a_split_loses_nothing_and_keeps_equal_texts_together(rows, share, seed, stratified):
    label_of: dict[str, int] = {}
    rows = [(text, label_of.setdefault(text, label)) for text, label in rows]
    whole = Examples(tuple(text for text, _ in rows), np.array([label for _, label in rows]))
    train, held = split(whole, share, np.random.default_rng(seed), stratified)
    pairs = [(text, int(label)) for part in (train, held) for text, label in zip(part.texts, part.targets, strict=True)]
    assert sorted(pairs) == sorted(rows)
    assert not set(train.texts) & set(held.texts)
    if stratified:
        for label in set(label_of.values()):
            different = sum(other == label for other in label_of.values())
            assert (label in train.targets) or not different
            assert (label in held.targets) == (different > 1)
    again = split(whole, share, np.random.default_rng(seed), stratified)
    assert (again[0].texts, again[1].texts) == (train.texts, held.texts)


def test_the_share_held_out_is_the_one_asked_for_in_every_class():
    whole = Examples(tuple(map(str, range(300))), np.repeat(np.arange(3), 100))
    _, held = split(whole, 0.2, np.random.default_rng(1), True)
    assert np.bincount(held.targets).tolist() == [20, 20, 20]


def test_what_is_measured_is_taken_out_of_what_is_learned():
    left, gone = without(Examples(("a", "b", "a", "c"), np.arange(4)), Examples(("a",)), Examples(("c", "z")))
    assert (left.texts, left.targets.tolist(), gone) == (("b",), [1], 3)


def job(**data) -> Job:
    return Job("j", Data(augment=Augment(), **data), Teacher("t"))


def test_material_splits_checks_and_warns(folder):
    rows = [(f"{label} {number}", label) for label in ("a", "b") for number in range(20)]
    files = {
        "train": (write(folder, "train.csv", csv_text(rows)),),
        "test": (write(folder, "test.csv", csv_text([("a 3", "a"), ("new", "b")])),),
        "unlabeled": (write(folder, "u.txt", "new\nother\n"),),
        "outside": (write(folder, "o.txt", "far away\n"),),
    }
    found = read_material(job(held_out=0.25, **files), folder)
    assert (len(found.dev), len(found.test), found.labels) == (10, 2, ("a", "b"))
    assert found.unlabeled.texts == ("other",)
    assert found.outside.texts == ("far away",)
    learned = {*found.train.texts, *found.unlabeled.texts}
    assert not learned & {*found.dev.texts, *found.test.texts}
    leaks = [warning for warning in found.warnings if "left out of training" in warning]
    assert len(leaks) == (1 if "a 3" in found.dev.texts else 2)
    same = read_material(job(held_out=0.25, **{**files, "outside": ()}), folder)
    assert same.digest == found.digest
    assert read_material(job(held_out=0.3, **files), folder).digest != found.digest


def test_a_class_with_one_example_is_refused_when_it_must_be_split(folder):
    rows = [(f"{label} {number}", label) for label in ("card_arrival", "b") for number in range(5)]
    train = write(folder, "train.csv", csv_text([*rows, ("late", "card_arival"), ("x", "solo")]))
    with pytest.raises(TrafficError) as caught:
        read_material(job(train=(train,)), folder)
    assert f'"card_arival" ({folder / "train.csv"}, line 12; is it \'card_arrival\'?), "solo"' in caught.value.message
    dev = write(folder, "dev.csv", csv_text([("y", "b")]))
    found = read_material(job(train=(train,), dev=(dev,)), folder)
    assert any("single example" in warning for warning in found.warnings)
    assert "solo" in found.labels


def test_too_few_examples_to_split_are_refused(folder):
    with pytest.raises(TrafficError, match="cannot be split"):
        read_material(msgspec.structs.replace(job(train=(write(folder, "a.csv", csv_text([("x", "1")])),)), task="regression"), folder)  # fmt: skip


@pytest.mark.skipif(not BANKING.exists(), reason="needs shared/data/banking77 beside the repository")
def test_banking77_is_read_whole():
    data = Data(train=("train.csv",), test=("test.csv",), label="category")
    found = read_material(Job("banking", data, Teacher("t")), BANKING)
    assert (len(found.labels), len(found.test)) == (77, 3080)
    assert 9_900 < len(found.train) + len(found.dev) <= 10_003
    assert np.bincount(found.dev.targets, minlength=77).min() >= 1
    assert not set(found.train.texts) & {*found.test.texts, *found.dev.texts}
