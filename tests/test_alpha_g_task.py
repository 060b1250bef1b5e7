"""From stored spacepoints to network and back to mm: padding, centring, augmentation, losses, widths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT

from jaxhep import losses, session
from jaxhep.alpha_g import task
from jaxhep.alpha_g.features import CODES_PER_MM
from jaxhep.config import load_config
from jaxhep.errors import BadInput

STORED = 12


@pytest.fixture
def config():
    config = load_config(str(ROOT / "configs/pointnet.py:smoke"))
    config.data.stored_points, config.inputs.points = STORED, 8
    config.augment.update({"rotate": False, "reflect": False})
    return config


@pytest.fixture
def batch():
    generator = np.random.default_rng(0)
    events = 64
    count = np.r_[1, 3, STORED, generator.integers(1, STORED + 1, events - 3)].astype(np.uint16)
    angle = generator.uniform(0, 2 * np.pi, (events, STORED))
    radius, z = generator.uniform(110, 189, (events, STORED)), generator.uniform(-900, 900, (events, STORED))
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle), z], -1)
    points[np.arange(STORED) >= count[:, None]] = 0  # as they are stored
    vertex = generator.uniform(-20, 20, (events, 3)) + np.array([0, 0, 300])
    columns = {"points": np.rint(points * CODES_PER_MM).astype(np.int16), "count": count}
    columns |= {"vertex": vertex.astype(np.float32), "label": np.ones(events, np.uint8)}
    return {name: jnp.asarray(values) for name, values in columns.items()}


def test_padding_repeats_real_points_or_masks_what_is_missing(config, batch):
    config.inputs.centre = "none"
    repeated = task.build_inputs(config)(batch)
    config.inputs.padding = "mask"
    points, mask = task.build_inputs(config)(batch)
    for event, count in enumerate(np.minimum(batch["count"], 8).tolist()):
        wanted = batch["points"][event][np.arange(8) % count] / CODES_PER_MM
        np.testing.assert_allclose(repeated[event], wanted, rtol=1e-6)
        np.testing.assert_array_equal(mask[event], np.arange(8) < count)
    np.testing.assert_array_equal(points, repeated)


def test_the_centre_is_the_mean_of_the_real_points_that_are_seen(config, batch):
    config.inputs.unit_mm = 10.0
    points = task.build_inputs(config)(batch)
    predicted = task.build_decode(config)(jnp.full((64, 1), 1.5), batch)
    for event, count in enumerate(np.minimum(batch["count"], 8).tolist()):
        z = batch["points"][event, :count, 2] / CODES_PER_MM
        np.testing.assert_allclose(points[event, :count, 2], (z - z.mean()) / 10, atol=1e-4)
        np.testing.assert_allclose(predicted[event, 0], z.mean() + 15, atol=1e-3)


def augmented(config, batch, key=1, **fields):
    config.augment.update(fields)
    return task.build_augment(config)(jax.random.key(key), batch)


def test_nothing_asked_nothing_changed(config):
    assert task.build_augment(config) is None


def test_rotation_turns_points_and_truth_together(config, batch):
    found = augmented(config, batch, rotate=True)
    points, vertex = np.asarray(found["points"]), np.asarray(found["vertex"])
    before = batch["points"] / CODES_PER_MM
    np.testing.assert_allclose(points[..., 2], before[..., 2], atol=1e-3)
    np.testing.assert_allclose(np.hypot(*points[..., :2].T), np.hypot(*before[..., :2].T), atol=1e-3)
    turned = np.arctan2(vertex[:, 1], vertex[:, 0]) - np.arctan2(*batch["vertex"][:, 1::-1].T)
    own = np.arctan2(points[:, 0, 1], points[:, 0, 0]) - np.arctan2(before[:, 0, 1], before[:, 0, 0])
    np.testing.assert_allclose(np.exp(1j * turned), np.exp(1j * own), atol=1e-4)
    assert np.abs(np.mean(np.exp(1j * turned))) < 0.4  # every angle, not one
    np.testing.assert_allclose(distances(found), distances(batch), rtol=1e-4)


def distances(batch):
    """Distance of each real point to the vertex: what every symmetry of the detector keeps."""
    points = np.asarray(batch["points"]) / (CODES_PER_MM if batch["points"].dtype == np.int16 else 1)
    real = np.arange(points.shape[1]) < np.asarray(batch["count"])[:, None]
    return np.linalg.norm(points - np.asarray(batch["vertex"])[:, None], axis=2)[real]


def test_reflection_mirrors_points_and_truth_together(config, batch):
    found = augmented(config, batch, reflect=True)
    signs = np.asarray(found["vertex"]) / batch["vertex"]
    np.testing.assert_allclose(np.abs(signs), 1, rtol=1e-6)
    assert {tuple(row) for row in np.sign(signs).astype(int)} == {(1, 1, 1), (-1, 1, 1), (1, 1, -1), (-1, 1, -1)}
    np.testing.assert_allclose(distances(found), distances(batch), rtol=1e-4)


def test_the_shift_moves_the_whole_event_and_stays_in_the_detector(config, batch):
    found = augmented(config, batch, shift_z_mm=400.0)
    shift = np.asarray(found["vertex"])[:, 2] - batch["vertex"][:, 2]
    np.testing.assert_allclose(distances(found), distances(batch), rtol=1e-4)
    real = np.arange(STORED) < batch["count"][:, None]
    assert np.abs(np.asarray(found["points"])[..., 2][real]).max() <= 1152.01
    assert np.abs(shift).max() <= 400
    assert shift.max() > 100
    assert shift.min() < -100
    # With the mean subtracted the network sees the same event, and the target moves with it.
    np.testing.assert_allclose(task.build_inputs(config)(found), task.build_inputs(config)(batch), atol=2e-3)


def test_the_choice_takes_other_real_points_each_time(config, batch):
    one, two = (augmented(config, batch, key, choose=True) for key in (1, 2))
    assert one["points"].shape == (64, 8, 3)
    for event, count in enumerate(batch["count"].tolist()):
        stored = {tuple(row) for row in np.asarray(batch["points"])[event, :count]}
        chosen = {tuple(row) for row in np.rint(one["points"][event, : min(count, 8)] * CODES_PER_MM).astype(int)}
        assert len(chosen) == min(count, 8)
        assert chosen <= stored
    full = np.flatnonzero(batch["count"] == STORED)[0]
    assert not np.allclose(one["points"][full], two["points"][full])
    np.testing.assert_array_equal(one["vertex"], batch["vertex"])
    # Scoring takes points spread evenly over the event, and training those that were chosen.
    config.inputs.centre = "none"
    scored, trained = (task.build_inputs(config)(found) for found in (batch, one))
    np.testing.assert_array_equal(scored[full], batch["points"][full][np.arange(8) * STORED // 8] / CODES_PER_MM)
    np.testing.assert_array_equal(trained[full], one["points"][full])


@pytest.mark.parametrize("kind", [*losses.RESIDUAL_LOSSES, *losses.WIDTH_LOSSES])
@pytest.mark.parametrize("target", task.TARGETS)
def test_losses_are_the_textbook_formulas_in_mm(kind, target, config, batch):
    config.target, config.loss.kind, config.loss.delta_mm, config.inputs.unit_mm = target, kind, 2.0, 100.0
    columns = np.array(task.TARGETS[target])
    wanted_outputs = task.build(config).arguments["outputs"]
    outputs = jnp.asarray(np.random.default_rng(1).normal(0, 0.02, (64, wanted_outputs)).astype(np.float32))
    found = task.build_loss(config, {})(outputs, batch)
    predicted = np.asarray(task.build_decode(config)(outputs, batch), np.float64)
    residual, width = predicted[:, : len(columns)] - batch["vertex"][:, columns], predicted[:, len(columns) :]
    size = np.abs(residual)
    wanted = {
        "huber": lambda: np.where(size < 2, size**2 / 2, 2 * size - 2).mean(1),
        "l1": lambda: size.mean(1),
        "l2": lambda: np.linalg.norm(residual, axis=1),
        "mean_squared": lambda: (residual**2).mean(1),
        "gaussian_nll": lambda: ((residual / width) ** 2 / 2 + np.log(width)).sum(1),
        "laplace_nll": lambda: (size / width + np.log(width)).sum(1),
    }[kind]()
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=1e-3)
    np.testing.assert_allclose(task.build_metric(config)(outputs, batch), size.mean(1), rtol=1e-4, atol=1e-3)
    assert wanted_outputs == len(columns) * (2 if kind in losses.WIDTH_LOSSES else 1)


def test_gradients_are_finite_at_a_perfect_prediction():
    for loss in losses.RESIDUAL_LOSSES.values():
        arguments = (1.0,) if loss is losses.huber else ()
        gradient = jax.grad(lambda r, loss=loss, rest=arguments: loss(r, *rest).sum())(jnp.zeros((2, 3)))
        assert np.isfinite(np.asarray(gradient)).all()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("pointnet", 2_658_369),
        ("pointnet_zshift", 3_459_394),
        ("pointnet_xyz", 2_658_883),
        ("pointnet_uncertainty", 2_658_626),
        ("pear", 2_658_369),
    ],
)
def test_each_config_has_its_number_of_parameters(name, parameters):
    for variant in ("", ":paper"):
        config = load_config(str(ROOT / f"configs/{name}.py{variant}"))
        assert session.summary(config, task.build(config)).splitlines()[-1] == f"trainable parameters: {parameters}"
        assert parameters == int("".join(filter(str.isdigit, documented_parameters(name))))


def documented_parameters(name):
    """The number that the config's docstring gives, or that of the network it says it is made of."""
    text = (ROOT / f"configs/{name}.py").read_text().split('"""')[1]
    line = next((line for line in text.splitlines() if "parameters" in line), "2,658,369 parameters")
    return line.split(" parameters")[0].split()[-1]


@pytest.mark.parametrize(
    ("section", "field", "value", "message"),
    [
        ("inputs", "padding", "masks", "config.inputs.padding is 'masks', wanted one of repeat, mask .nearest: 'mask'"),
        ("inputs", "centre", "median", "config.inputs.centre is 'median'"),
        ("inputs", "points", STORED + 1, "config.inputs.points is 13, wanted 1 to the 12 of config.data.stored_points"),
        ("inputs", "unit_mm", 0.0, "config.inputs.unit_mm is 0.0, wanted a positive length"),
        ("loss", "kind", "hubert", "config.loss.kind is 'hubert'.*nearest: 'huber'"),
        ("augment", "shift_z_mm", -1.0, "config.augment.shift_z_mm is -1.0"),
    ],
)
def test_settings_without_sense_are_refused(section, field, value, message, config):
    config[section][field] = value
    with pytest.raises(BadInput, match=message):
        task.check(config)


def test_x_and_y_cannot_be_learnt_where_they_are_not_known(config, batch):
    config.target = "xyz"
    batch = {name: np.array(values) for name, values in batch.items()}
    batch["vertex"][:, :2] = np.nan
    with pytest.raises(BadInput, match=r"config.target is 'xyz', but the data hold the true z alone"):
        task.check_columns(config, batch)
    config.target = "z"
    task.check_columns(config, batch)
    config.inputs.points = STORED + 1
    with pytest.raises(BadInput, match="the prepared data hold 12"):
        task.check_columns(config, batch)
