"""The native way of the usual fusion is that of `fusion`, and the best come first."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kektordb._fused import first, minmax
from kektordb.fusion import fuse

VALUES = st.lists(st.sampled_from([-3.5, 0.0, 0.1, 0.25, 7.0]), max_size=40)


def floats(values: list[float]) -> npt.NDArray[np.float32]:
    return np.array(values, np.float32)


@settings(max_examples=300, deadline=None)
@given(VALUES, VALUES, st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_minmax_is_that_of_fusion_to_the_last_bit(one: list[float], other: list[float], alpha: float) -> None:
    n = min(len(one), len(other))
    distances, scores = floats(one[:n]), floats(other[:n])

    assert minmax(distances, scores, alpha).tobytes() == fuse("minmax", distances, scores, alpha).tobytes()


def test_minmax_needs_both_scores() -> None:
    for distances, scores in ((floats([1, np.nan]), floats([1, 2])), (floats([1, 2]), floats([np.nan, 2]))):
        with pytest.raises(ValueError, match="needs both"):
            minmax(distances, scores, 0.5)
    with pytest.raises(ValueError, match="one length"):
        minmax(floats([1]), floats([]), 0.5)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.5, 0.75, 1.0]), max_size=150), st.integers(0, 160), st.randoms())
def test_the_first_are_the_largest_and_equal_ones_go_by_slot(values: list[float], k: int, generator: object) -> None:
    slots = np.array(range(len(values)), np.uint32)
    generator.shuffle(slots)  # type: ignore[attr-defined]
    wanted = sorted(range(len(values)), key=lambda place: (-values[place], slots[place]))[:k]

    assert first(np.array(values), slots, k).tolist() == wanted
