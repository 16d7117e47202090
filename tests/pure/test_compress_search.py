"""The sizes that a search tries, how it halves them, and what it chooses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.compress.job import Distil, Prune, Quantize
from farthing.compress.networks.encoder import Encoder, EncoderShape, LayerShape, parameters
from farthing.compress.searching.halving import Cost, Score, budget, chosen, shortened, spread, survivors
from farthing.compress.searching.sizes import Origin, Size, around, asked, per_token, shape_of, stages_of, weights

MINI = Origin(EncoderShape(30_522, 512, 384, 384, (LayerShape(12, 1536),) * 6, 77))
LINE = (Distil(layers=(0, 5), embedding=128), Prune(heads=4, ffn=320), Quantize())
ASKED = Size(2, 4, 320, 384, 128)


@pytest.mark.parametrize(
    ("stages", "size"),
    [
        (LINE, ASKED),
        ((Distil(layers=9, embedding=0),), Size(6, 12, 1536, 384, 384)),
        ((Distil(width=192, embedding=0),), Size(2, 12, 1536, 192, 192)),
        ((Distil(width=192, embedding=256),), Size(2, 12, 1536, 192, 256)),
        ((Distil(layers=4, embedding=64), Prune(layers=3, width=320, heads=6)), Size(3, 6, 1536, 320, 64)),
        ((Prune(ffn=9_999),), Size(6, 12, 1536, 384, 384)),
        ((Quantize(),), Size(6, 12, 1536, 384, 384)),
    ],
)
def test_the_size_that_stages_ask_for(stages, size):
    assert asked(stages, MINI) == size


def test_layers_of_a_student_that_is_not_cut_go_with_its_width():
    free = MINI._replace(cut=False)
    assert asked((Distil(width=192, embedding=0),), free) == Size(2, 6, 768, 192, 192)
    assert asked((Distil(width=192, embedding=0), Prune(heads=8)), free) == Size(2, 6, 768, 192, 192)


def test_sizes_around_begin_with_the_one_asked_for_and_lie_on_both_sides():
    found = around(LINE, MINI)

    assert found[0] == ASKED
    assert len(set(found)) == len(found) > 100
    for axis, most in (("layers", 6), ("heads", 12), ("ffn", 1536), ("embedding", 384)):
        values = {getattr(size, axis) for size in found}
        assert min(values) < getattr(ASKED, axis) < max(values) <= most
    assert {size.width for size in found} == {192, 288, 384}
    assert {size.layers for size in found} == {1, 2, 3, 4}
    assert all(size.ffn % 8 == 0 and size.width % 32 == 0 for size in found)


def test_only_what_a_stage_can_change_is_varied():
    assert {(size.heads, size.ffn) for size in around((Distil(),), MINI)} == {(12, 1536)}
    pruned = around((Prune(heads=4),), MINI)
    assert {(size.layers, size.width, size.embedding) for size in pruned} == {(6, 384, 384)}
    assert len({size.ffn for size in pruned}) > 2
    assert around((Quantize(),), MINI) == (Size(6, 12, 1536, 384, 384),)


def test_a_size_is_reached_by_changing_as_little_as_possible():
    assert stages_of(ASKED, LINE, MINI) == LINE
    fewer = stages_of(Size(2, 3, 320, 384, 128), LINE, MINI)
    assert fewer == (LINE[0], Prune(heads=3, ffn=320), LINE[2])
    deeper = stages_of(Size(3, 4, 320, 288, 128), LINE, MINI)
    assert deeper == (Distil(layers=3, width=288, embedding=128), *LINE[1:])


def test_a_stage_before_the_one_that_decides_makes_room():
    stages = (Distil(width=256, layers=2, embedding=64), Prune(width=192))
    assert stages_of(Size(2, 12, 1536, 288, 64), stages, MINI) == (
        Distil(width=288, layers=2, embedding=64),
        Prune(width=288),
    )
    assert stages_of(Size(2, 12, 1536, 128, 64), stages, MINI) == (stages[0], Prune(width=128))


sizes = st.integers(0, 6)
stage_lists = st.lists(
    st.one_of(
        st.builds(
            Distil,
            layers=st.one_of(
                st.integers(1, 8), st.sets(st.integers(0, 5), min_size=1).map(lambda some: tuple(sorted(some)))
            ),
            width=sizes.map(lambda n: 64 * n),
            embedding=sizes.map(lambda n: 48 * n),
        ),
        st.builds(
            Prune, heads=sizes, ffn=sizes.map(lambda n: 300 * n), width=sizes.map(lambda n: 64 * n), layers=sizes
        ),
    ),
    min_size=1,
    max_size=3,
)


@given(stage_lists, st.booleans())
def test_every_size_around_is_what_its_stages_leave(stages, cut):
    origin = MINI._replace(cut=cut)
    found = around(stages, origin)
    assert found[0] == asked(stages, origin)
    for size in found:
        changed = stages_of(size, stages, origin)
        assert asked(changed, origin) == size
        assert len(changed) == len(stages)
        assert [type(stage) for stage in changed] == [type(stage) for stage in stages]


def test_weights_are_those_that_the_encoder_has():
    shape = shape_of(ASKED, MINI, 900, 64)
    encoder = Encoder(shape)
    matrices = sum(one.numel() for name, one in encoder.named_parameters() if one.ndim == 2 and "head." not in name)
    assert weights(shape) == matrices
    assert parameters(encoder) > matrices
    assert per_token(shape) == 2 * (4 * 384 * 128 + 2 * 384 * 320) + 128 * 384
    assert shape.outputs == 77
    assert shape_of(ASKED, MINI, 900, 4096).positions == 512


def score(value, short=0.0, ms=1.0, mb=1.0):
    return Score(value, short, Cost(mb, ms))


def test_the_better_half_goes_on_and_the_cheaper_of_equals():
    assert survivors([score(90, 2.0), score(91, 1.0), score(89, 3.0), score(88, 4.0)]) == [0, 1]
    assert survivors([score(95, ms=3.0), score(93, ms=1.0), score(94, ms=2.0)]) == [1, 2]
    assert survivors([score(95, mb=3.0), score(93, mb=1.0)]) == [1]
    assert survivors([score(95), score(93)]) == [0]
    assert survivors([score(1, 99.0)]) == [0]


def test_the_cheapest_that_keeps_the_floor_is_chosen_or_else_the_most_accurate():
    assert chosen([score(95, ms=3.0), score(93, ms=1.0), score(80, 13.0, ms=0.1)]) == 1
    assert chosen([score(80, 3.0, ms=0.1), score(81, 2.0, ms=9.0)]) == 1
    assert chosen([score(80, 3.0, ms=2.0), score(80, 3.0, ms=1.0)]) == 1


@given(st.integers(0, 1000), st.integers(1, 6))
def test_budgets_grow_to_the_whole(epochs, rungs):
    found = [budget(epochs, rung, rungs) for rung in range(rungs)]
    assert found == sorted(found)
    assert found[-1] == epochs
    assert all((one > 0) == (epochs > 0) for one in found)


def test_only_stages_that_train_are_tried_and_for_the_budget_of_their_rung():
    stages = (Distil(epochs=5), Prune(heads=4, epochs=4), Quantize())
    assert [stage.epochs for stage in shortened(stages, 0, 2)] == [3, 2]
    assert shortened(stages, 1, 2) == stages[:2]


positive = st.floats(0.001, 1000)


@given(st.lists(st.tuples(positive, positive), max_size=20), st.integers(1, 25))
def test_what_is_spread_is_distinct_and_begins_with_the_first(places, count):
    found = spread(places, count)
    assert len(set(found)) == len(found) == min(count, len(places))
    assert found[:1] == ([0] if places else [])


@given(st.lists(st.tuples(positive, positive), min_size=3, max_size=12, unique=True))
def test_the_second_place_is_the_furthest_from_the_first(places):
    import math

    second = places[spread(places, 2)[1]]

    def apart(place):
        return math.dist(*(tuple(map(math.log, one)) for one in (place, places[0])))

    assert apart(second) == pytest.approx(max(map(apart, places)))
