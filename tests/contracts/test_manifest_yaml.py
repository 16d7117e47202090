"""YAML by hand: whatever is written is read back as it was meant, and no comment gets out of its line."""

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.exporters.manifests.document import Noted, comment, write

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
)
HAZARDS = st.sampled_from(
    "on No y ~ null 8 1e5 0x1f 1:30 2024-01-01 --- -- = << a: : # ' {} [a] &a *a !a %a @a `a > | .5 .inf 1_0 é".split()  # noqa: SIM905
) | st.sampled_from(("", " ", "a: b", "a #b", "- a", '"', "\x85"))
TREES = st.recursive(
    SCALARS | HAZARDS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | HAZARDS, inner, max_size=4)
        | st.builds(lambda value, why: Noted(bare(value), why), inner, st.text(max_size=12))
    ),
    max_leaves=12,
)


def bare(tree: object) -> object:
    """A tree without its comments."""
    if isinstance(tree, Noted):
        return bare(tree.value)
    if isinstance(tree, dict):
        return {key: bare(value) for key, value in tree.items()}
    return [bare(each) for each in tree] if isinstance(tree, list) else tree


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=8) | HAZARDS, TREES, min_size=1, max_size=4), st.text(max_size=30))
def test_yaml_is_read_back_as_it_was_meant(tree, head):
    assert yaml.safe_load(write(tree, head)) == bare(tree)


@settings(deadline=None)
@given(st.text())
def test_a_comment_stays_on_its_line(text):
    assert len(f"# {comment(text)}".splitlines()) == 1
    assert yaml.safe_load(f"a: 1  # {comment(text)}\n") == {"a": 1}
