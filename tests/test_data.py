"""Batches are a pure function of (seed, step)."""

import numpy as np
import pytest

from jaxhep import data, prepare
from jaxhep.errors import BadInput

NAMES = ("cells", "label", "event")


@pytest.fixture
def split(config):
    return data.Split(prepare.prepare(config, quiet=True), "train")


@pytest.mark.parametrize("order", data.ORDERS)
def test_every_epoch_is_another_permutation(split, order):
    batches = data.Batches(split, 16, 3, NAMES, order)
    epochs = []
    for epoch in range(3):
        steps = range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch)
        epochs.append(
            [
                tuple(pair)
                for step in steps
                for pair in zip(*(batches[step][n].tolist() for n in ("label", "event")), strict=True)
            ]
        )
    used = batches.steps_per_epoch * 16
    assert all(len(set(epoch)) == used for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("order", data.ORDERS)
def test_a_batch_depends_on_seed_and_step_alone(split, order):
    one, two = (data.Batches(split, 16, 3, NAMES, order) for _ in range(2))
    for step in (70, 3, 0, 41):  # any order, other steps asked before
        for name in NAMES:
            np.testing.assert_array_equal(one[step][name], two[step][name])
    assert not np.array_equal(one[5]["event"], data.Batches(split, 16, 4, NAMES, order)[5]["event"])


def test_the_loader_gives_the_same_batches_from_any_start(split):
    batches = data.Batches(split, 16, 0, NAMES)
    loaded = list(data.load(batches, 7, 12, 3))
    assert [len(part["label"]) for part in loaded] == [3, 2]
    cells = np.concatenate([part["cells"] for part in loaded])
    for offset, step in enumerate(range(7, 12)):
        np.testing.assert_array_equal(cells[offset], batches[step]["cells"])


@pytest.mark.parametrize(
    ("start", "stop", "most"), [(0, 30, 4), (7, 30, 4), (9, 10, 3), (10, 35, 20), (3, 33, 1), (5, 5, 2)]
)
def test_dispatches_end_with_their_epoch_and_with_the_run(start, stop, most):
    class Ten:
        steps_per_epoch = 10

    dispatches = data.Dispatches(Ten(), start, stop, most)
    step = start
    for number in range(len(dispatches)):
        begin, count = dispatches.steps(number)
        assert (begin, count) == (step, min(most, 10 - step % 10, stop - step))
        step += count
    assert step == stop


def test_gathered_values_belong_together(split):
    batch = data.Batches(split, 32, 0, NAMES)[11]
    where = {
        (label, event): row
        for row, (label, event) in enumerate(zip(split.column("label"), split.column("event"), strict=True))
    }
    for row in range(32):
        source = where[batch["label"][row], batch["event"][row]]
        np.testing.assert_array_equal(batch["cells"][row], split.columns["cells"][source])


def test_scoring_takes_every_event_once_and_pads_with_weight_zero(split):
    batches = list(data.in_order(split, 50, NAMES))
    assert {len(batch["label"]) for batch in batches} == {50}
    weight = np.concatenate([batch["weight"] for batch in batches])
    assert weight.sum() == len(split)
    np.testing.assert_array_equal(
        np.concatenate([batch["event"] for batch in batches])[: len(split)], split.column("event")
    )
    assert np.all(weight[: len(split)] == 1)


def test_limits_take_the_first_of_each_class(config):
    folder = prepare.prepare(config, quiet=True)
    small, large = data.Split(folder, "train", 20), data.Split(folder, "train", 100)
    assert len(small) == 40
    assert set(small.events) < set(large.events)
    assert small.column("label").sum() == 20


def test_too_few_events_and_wrong_order(split):
    with pytest.raises(BadInput, match=r"fewer than one batch of 100000"):
        data.Batches(split, 100_000, 0, NAMES)
    with pytest.raises(BadInput, match=r"config.train.order is 'blocks'.*nearest: 'block'"):
        data.Batches(split, 8, 0, NAMES, "blocks")
