"""Ranges of events in chunks of one size: every event once, and the next chunk begun before one is handed out."""

import numpy as np
import pytest

from jaxhep.errors import BadInput
from jaxhep.event_chunks import check_range, chunks_of, numbered, one_ahead, whole


@pytest.mark.parametrize(("first", "events"), [(0, 10), (0, 25), (7, 3), (7, 4), (19, 1), (20, 20), (5, 0)])
def test_every_event_of_a_range_comes_once(first, events) -> None:
    found = [numbered(number, rows, 10, 3) for number, rows in chunks_of(first, events, 10)]
    assert [event for columns in found for event in columns["event"].tolist()] == list(range(first, first + events))
    assert all(len(columns["event"]) for columns in found)
    assert all((columns["run"] == 3).all() and len(columns["run"]) == len(columns["event"]) for columns in found)


def test_the_next_is_begun_before_one_is_handed_out() -> None:
    begun = []
    handed_out = one_ahead(begun.append(number) or number for number in range(3))
    assert not begun
    assert [(number, len(begun)) for number in handed_out] == [(0, 2), (1, 3), (2, 3)]
    assert list(one_ahead([])) == []


def test_chunks_are_joined_by_column() -> None:
    columns = whole(3, iter([{"a": np.arange(2)}, {"a": np.arange(1)}]))
    np.testing.assert_array_equal(columns["a"], [0, 1, 0])
    with pytest.raises(BadInput, match="events is 0: wanted at least 1"):
        whole(0, iter([]))


@pytest.mark.parametrize("wrong", [(-1, 0, 0), (1, -1, 0), (1, 0, -1), (1, 0, 2**31), (2, 2**32 - 1, 0)])
def test_ranges_beyond_32_bits_and_negative_ones_are_refused(wrong) -> None:
    with pytest.raises(BadInput, match="wanted events from 0 on, seed 0 to 2"):
        check_range(*wrong)
    check_range(1, 2**32 - 2, 2**31 - 1)
