"""WriteBehind: the latest value of every key is written, in the background, as far as there is room."""

import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.stores.write_behind import WriteBehind


def test_a_value_replaced_while_the_old_one_is_written_is_written_too():
    began, go_on = threading.Event(), threading.Event()
    written = []

    def write(batch) -> None:
        if batch and not began.is_set():
            began.set()
            assert go_on.wait(10)
        written.extend(batch)

    behind = WriteBehind[str, int]("test", write, 100)
    behind.put("a", 1, 10)
    assert began.wait(10)
    behind.put("a", 2, 10)
    go_on.set()
    assert behind.flush(10)
    assert written == [("a", 1), ("a", 2)]
    behind.close()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 60)), max_size=40))
@settings(max_examples=25, deadline=None)
def test_the_last_value_of_every_key_is_written_unless_it_did_not_fit(puts):
    written: dict[int, int] = {}
    behind = WriteBehind[int, int]("test", written.update, 100)
    wanted: dict[int, int] = {}
    for number, (key, size) in enumerate(puts):
        dropped = behind.dropped
        behind.put(key, number, size)
        wanted.pop(key, None)
        if behind.dropped == dropped:
            wanted[key] = number
            assert behind.get(key) in (number, None)
    behind.close()
    assert written.items() >= wanted.items()


def test_room_comes_back_when_values_are_written():
    behind = WriteBehind[int, int]("test", lambda batch: None, 100)
    for number in range(20):
        behind.put(number, number, 100)
        assert behind.flush(10)
    assert behind.dropped == 0
    behind.put(0, 0, 101)
    assert behind.dropped == 1
    behind.close()
