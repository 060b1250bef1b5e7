"""Checkpoints: the newest two and the best are kept, and a damaged one is noticed and stepped over."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhep import steps
from jaxhep.checkpoint import Checkpoints, digests, shapes
from jaxhep.errors import BadInput


def state_at(step: int) -> steps.State:
    params = {"kernel": jnp.arange(4096, dtype=jnp.float32) + step, "bias": jnp.ones(3) * step}
    optimiser = steps.build_optimiser()
    schedule = jax.tree.map(lambda x: x + 0, steps.fresh_schedule())
    return steps.State(jnp.int32(step), jnp.int32(0), params, {}, optimiser.init(params), (), schedule)


SHARDING = jax.sharding.SingleDeviceSharding(jax.devices()[0])


def placed(state):
    return jax.device_put(state, SHARDING)


def save(folder, losses):
    checkpoints = Checkpoints(folder)
    for step, loss in losses.items():
        checkpoints.save(placed(state_at(step)), loss)
    checkpoints.close()


def test_latest_two_and_best_are_kept_though_the_loss_gets_worse(tmp_path):
    save(tmp_path, {10: 0.5, 20: 0.3, 30: 0.6, 40: float("nan"), 50: 0.7, 60: float("inf")})
    checkpoints = Checkpoints(tmp_path, read_only=True)
    assert checkpoints.steps() == [20, 50, 60]
    assert int(checkpoints.restore_latest(shapes(lambda: state_at(0), SHARDING)).step) == 60
    state, step = checkpoints.restore_best(shapes(lambda: state_at(0), SHARDING))
    assert step == 20
    np.testing.assert_array_equal(state.params["kernel"], state_at(20).params["kernel"])


def test_the_whole_state_comes_back_bit_for_bit(tmp_path):
    save(tmp_path, {7: 1.0})
    restored = Checkpoints(tmp_path).restore_latest(shapes(lambda: state_at(0), SHARDING))
    assert type(restored) is steps.State
    assert digests(restored) == digests(state_at(7))


def flip_bit(folder, step):
    """Change one byte in the middle of the largest data file of a checkpoint."""
    files = [path for path in (folder / "checkpoints" / f"step_{step}").rglob("*") if path.is_file()]
    path = max(
        (path for path in files if "state" in str(path) and "/d/" in str(path)),
        key=lambda path: path.stat().st_size,
    )
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(folder, step):
    for path in (folder / "checkpoints" / f"step_{step}" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip_bit, truncate])
def test_a_damaged_newest_checkpoint_falls_back_and_is_reported(tmp_path, capsys, damage):
    save(tmp_path, {1: 0.5, 2: 0.4})
    damage(tmp_path, 2)
    checkpoints = Checkpoints(tmp_path)
    restored = checkpoints.restore_latest(shapes(lambda: state_at(0), SHARDING))
    assert int(restored.step) == 1
    assert digests(restored) == digests(state_at(1))
    assert "checkpoint damaged, trying the one before: step 2" in capsys.readouterr().out
    # The run goes on and reaches the damaged step again: it is saved anew.
    checkpoints.save(placed(state_at(2)), 0.4)
    checkpoints.close()
    assert int(Checkpoints(tmp_path).restore_latest(shapes(lambda: state_at(0), SHARDING)).step) == 2


def test_all_damaged_is_one_line(tmp_path):
    save(tmp_path, {1: 0.5})
    truncate(tmp_path, 1)
    with pytest.raises(BadInput, match="no checkpoint is readable: step 1"):
        Checkpoints(tmp_path).restore_latest(shapes(lambda: state_at(0), SHARDING))


def test_nothing_saved(tmp_path):
    assert Checkpoints(tmp_path).restore_latest(shapes(lambda: state_at(0), SHARDING)) is None
    with pytest.raises(BadInput, match="no checkpoint to evaluate"):
        Checkpoints(tmp_path, read_only=True).restore_best(shapes(lambda: state_at(0), SHARDING))
