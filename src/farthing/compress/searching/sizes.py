"""Sizes of students: those that a job's stages ask for, those around them, and the stages that lead to each."""

from collections.abc import Sequence
from itertools import combinations, product
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from farthing.compress.job import Distil, Prune, Stage
from farthing.compress.networks.encoder import EncoderShape, LayerShape

Axis = Literal["layers", "heads", "ffn", "width", "embedding"]

AXES: Final[tuple[Axis, ...]] = ("layers", "heads", "ffn", "width", "embedding")
FACTORS: Final = (0.5, 0.75, 1.5, 2.0)
"""How much smaller and larger than asked for is tried."""
STEPS: Final[dict[Axis, int]] = {"layers": 1, "heads": 1, "ffn": 8, "width": 32, "embedding": 8}
"""What sizes are multiples of."""


class Size(msgspec.Struct, frozen=True):
    """A student's layers, the heads and feed-forward neurons of each, its width, and that of its embeddings."""

    layers: int
    heads: int
    ffn: int
    width: int
    embedding: int

    @property
    def name(self) -> str:
        """What people are shown.

        >>> Size(2, 4, 320, 384, 128).name
        '2 layers, 4 heads, ffn 320, width 384, embedding 128'
        """
        layers, heads = (
            f"{count} {noun}{'' if count == 1 else 's'}"
            for count, noun in ((self.layers, "layer"), (self.heads, "head"))
        )
        return f"{layers}, {heads}, ffn {self.ffn}, width {self.width}, embedding {self.embedding}"


class Origin(NamedTuple):
    """What a student is made from: an encoder that it is `cut` from, or one of no more than the same architecture.

    The layers of a student that is not cut have as many heads and neurons as go with its width.
    """

    shape: EncoderShape
    cut: bool = True

    def layer(self, width: int) -> LayerShape:
        """A whole layer of a student of some width."""
        if self.cut:
            layers = self.shape.layers
            return LayerShape(max(one.heads for one in layers), max(one.ffn for one in layers))
        return LayerShape(width // self.shape.head_width, 4 * width)

    @property
    def whole(self) -> Size:
        """The largest student."""
        width = self.shape.width
        layer = self.layer(width)
        return Size(len(self.shape.layers), layer.heads, layer.ffn, width, self.shape.embedding)


def asked(stages: Sequence[Stage], origin: Origin) -> Size:
    """The size of what stages leave of an origin."""
    whole = origin.whole
    layers, heads, ffn, width, embedding = whole.layers, whole.heads, whole.ffn, whole.width, whole.embedding
    factorised, free = embedding != width, not origin.cut
    for stage in stages:
        if isinstance(stage, Distil):
            count = stage.layers if isinstance(stage.layers, int) else len(stage.layers)
            layers = min(layers, count)
            width = min(width, stage.width or width)
            if 0 < stage.embedding < embedding:
                embedding, factorised = stage.embedding, True
            if free:
                heads, ffn = origin.layer(width).heads, origin.layer(width).ffn
                free = False
        elif isinstance(stage, Prune):
            layers, width = min(layers, stage.layers or layers), min(width, stage.width or width)
            heads, ffn = min(heads, stage.heads or heads), min(ffn, stage.ffn or ffn)
    return Size(layers, heads, ffn, width, embedding if factorised else width)


def around(stages: Sequence[Stage], origin: Origin) -> tuple[Size, ...]:
    """The size that stages ask for, and all that differ from it in one thing, in two, or in everything alike.

    What no stage could bring about is left out.
    """
    middle = asked(stages, origin)
    axes = tuple(axis for axis in AXES if _rulers(stages, axis))
    options = {axis: _options(axis, middle, origin) for axis in axes}
    found = [middle]
    for pair in (*((axis,) for axis in axes), *combinations(axes, 2)):
        found += [
            replace(middle, **dict(zip(pair, values, strict=True)))
            for values in product(*(options[axis] for axis in pair))
        ]
    found += [replace(middle, **{axis: _scaled(axis, middle, origin, factor) for axis in axes}) for factor in FACTORS]
    fitting = (replace(size, embedding=min(size.embedding, size.width)) for size in found)
    return tuple(dict.fromkeys((middle, *(size for size in fitting if _sound(size, stages, origin)))))


def stages_of(size: Size, stages: Sequence[Stage], origin: Origin) -> tuple[Stage, ...]:
    """The stages, changed as little as possible, that leave a size of an origin.

    A stage that only comes before the one that decides is held back no more than that one.
    """
    before = asked(stages, origin)
    changed = list(stages)
    for axis in AXES:
        wanted = getattr(size, axis)
        if wanted == getattr(before, axis):
            continue
        rulers = _rulers(stages, axis)
        for number in rulers:
            stage = changed[number]
            own = getattr(stage, axis)
            count = len(own) if isinstance(own, tuple) else own
            value = wanted if number == rulers[-1] else max(count, wanted)
            if value != count:
                changed[number] = replace(stage, **{axis: value})
    return tuple(changed)


def shape_of(size: Size, origin: Origin, vocabulary: int, positions: int) -> EncoderShape:
    """The shape of a student of some size, with so many pieces, for texts of at most so many tokens."""
    return replace(
        origin.shape,
        vocabulary=vocabulary,
        positions=min(positions, origin.shape.positions),
        width=size.width,
        embedding=size.embedding,
        layers=(LayerShape(size.heads, size.ffn),) * size.layers,
    )


def weights(shape: EncoderShape) -> int:
    """How many weights an encoder has, without biases and what normalises."""
    return shape.vocabulary * shape.embedding + shape.positions * shape.width + per_token(shape)


def per_token(shape: EncoderShape) -> int:
    """How many multiplications an encoder takes for a token, without those of attention between tokens."""
    layers = sum(4 * shape.width * one.heads * shape.head_width + 2 * shape.width * one.ffn for one in shape.layers)
    projected = 0 if shape.embedding == shape.width else shape.embedding * shape.width
    return layers + projected


def _rulers(stages: Sequence[Stage], axis: Axis) -> list[int]:
    """The numbers of the stages that decide about an axis, the last one last; of no stage when none can."""
    kinds = {"heads": Prune, "ffn": Prune, "embedding": Distil}
    able = [number for number, stage in enumerate(stages) if isinstance(stage, kinds.get(axis, Distil | Prune))]
    saying = [number for number in able if getattr(stages[number], axis)]
    if saying:
        return saying
    fallback = [number for number in able if axis in ("heads", "ffn") or isinstance(stages[number], Distil)]
    return fallback[-1:]


def _options(axis: Axis, middle: Size, origin: Origin) -> list[int]:
    """The sizes of an axis that are tried beside the one asked for; of layers also one less and one more."""
    found = {_scaled(axis, middle, origin, factor) for factor in FACTORS}
    if axis == "layers":
        found |= {max(middle.layers - 1, 1), min(middle.layers + 1, origin.whole.layers)}
    return sorted(found - {getattr(middle, axis)})


def _scaled(axis: Axis, middle: Size, origin: Origin, factor: float) -> int:
    step, most = STEPS[axis], getattr(origin.whole, axis)
    scaled = max(round(factor * getattr(middle, axis) / step) * step, step)
    return int(min(scaled, most))


def _sound(size: Size, stages: Sequence[Stage], origin: Origin) -> bool:
    """Whether the stages can leave a size: no layer has more than there are in the origin's, for one."""
    return asked(stages_of(size, stages, origin), origin) == size
