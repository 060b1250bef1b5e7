"""An ensemble is its members: each equals the same network trained alone, in groups, by scan, on several devices."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT, run

from jaxhep import data, ensemble, parallel, prepare, session, steps, train, training
from jaxhep.config import load_config
from jaxhep.detectors import detector_of
from jaxhep.errors import BadInput
from jaxhep.manifest import read_manifest

TOLERANCE = 2e-4  # of losses after ten steps: vmap rounds sums of products another way


def losses_of(config, folder, members, group=0, seed=0, count=10):
    """Train `count` steps and return the losses (count, members) and the outputs on one batch (members, B, ...)."""
    config.ensemble.update({"members": members, "group": group})
    config.seed = seed
    task, facts = (
        detector_of(config).task(config),
        {"electron_weight": 2.0, "scaling": read_manifest(folder)["scaling"]},
    )
    net = session.build_network(config, task, facts, "cpu")
    seeds, names = ensemble.seeds(config), (*task.columns, *task.targets)
    split = data.Split(folder, "train")
    each = [data.Batches(split, 8, int(seed), names) for seed in seeds]
    batches = each[0] if members == 1 else data.Members(each)
    step = ensemble.train_together(net.train_step(lambda step: jnp.float32(1e-3)), members, group)
    score = ensemble.score_together(net.score_step, members, group)
    run = parallel.build_parallel("jit", jax.local_devices()[:1], step, score, members)
    state, losses = run.place(jax.jit(ensemble.stack(net.init, seeds))()), []
    for batch in data.load(batches, 0, count, 2):
        state, metrics = run.train(state, batch)
        losses.append(np.asarray(metrics["loss"]).reshape(2, members))
    outputs = run.evaluate(state, next(data.in_order(split, 16, names)))["outputs"]
    return np.concatenate(losses), np.asarray(outputs).reshape(members, 16, -1)


@pytest.mark.parametrize("name", ["pointnet", "mlp"])
def test_a_member_is_the_network_trained_alone(name, vertex_config, config):
    chosen = vertex_config if name == "pointnet" else config
    folder = prepare.prepare(chosen, quiet=True)
    together, outputs = losses_of(chosen, folder, 3)
    if name == "mlp":
        grouped, grouped_outputs = losses_of(chosen, folder, 3, group=2)
        np.testing.assert_allclose(grouped, together, rtol=TOLERANCE)
        np.testing.assert_allclose(grouped_outputs, outputs, rtol=20 * TOLERANCE, atol=20 * TOLERANCE)
    alone, alone_outputs = losses_of(chosen, folder, 1, seed=2)
    np.testing.assert_allclose(together[:, 2:], alone, rtol=TOLERANCE)
    np.testing.assert_allclose(outputs[2:], alone_outputs, rtol=20 * TOLERANCE, atol=20 * TOLERANCE)
    assert np.abs(together[:, 0] / together[:, 1] - 1).min() > 10 * TOLERANCE  # others have other data and values


def test_the_mean_is_the_prediction_and_the_spread_is_kept(tmp_path, simulated, spacepoints):
    files = f"data.files={spacepoints}"
    assert run("pear", tmp_path, simulated, files, "train.epochs=1", "ensemble.members=3") == 0
    scores = np.load(tmp_path / "evaluation" / "scores.npz")
    assert scores["members"].shape == (32, 3, 3)
    np.testing.assert_allclose(scores["prediction"], scores["members"].mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(scores["spread"][:, 2], scores["members"][..., 2].std(axis=1), rtol=1e-2, atol=1e-3)
    methods = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["ranges"]["all"]["methods"]
    assert list(methods) == ["pointnet ensemble of 3", "pointnet, one of them", "Helix Fit"]
    assert methods["pointnet ensemble of 3"]["pull_spread"]["events"] == 32
    facts = json.loads((tmp_path / "provenance.json").read_text())
    assert (facts["members"], facts["trainable_parameters"]) == (3, 2_377)


def test_a_classifier_ensemble_is_scored_by_its_mean(tmp_path, simulated, samples):
    files = (f"data.electrons={samples}/el.root", f"data.protons={samples}/pr.root")
    assert run("mlp", tmp_path, simulated, *files, "train.epochs=1", "ensemble.members=2", "parallel.kind=pmap") == 0
    scores = np.load(tmp_path / "evaluation" / "scores.npz")
    assert scores["logit"].shape == scores["logit_spread"].shape == (64,)
    assert (scores["logit_spread"] > 0).all()
    metrics = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert all("mlp ensemble of 2" in content["methods"] for content in metrics["ranges"].values())


def test_the_schedule_of_each_member_follows_its_own_loss():
    schedule = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), steps.fresh_schedule())
    for losses in ([1.0, 1.0], [0.5, 2.0], [0.4, 2.0]):
        schedule = steps.end_epoch(schedule, np.array(losses), 0.0, 2, 0.5)
    np.testing.assert_array_equal(schedule.stale_epochs, [0, 2])
    np.testing.assert_array_equal(schedule.plateau_scale, [1.0, 0.5])
    np.testing.assert_allclose(schedule.best, [0.4, 1.0])
    state = steps.State(jnp.zeros(2), jnp.zeros(2), {}, {}, (), (), schedule)
    settings = load_config(str(ROOT / "configs/mlp.py:smoke")).train
    settings.patience = 2
    assert not training.has_converged(state, settings.patience)  # one still improves


def test_an_ensemble_that_does_not_fit_is_refused_with_its_size(vertex_config, tmp_path, monkeypatch):
    monkeypatch.setattr(ensemble, "free_bytes", lambda device: 1000)
    vertex_config.ensemble.members = 2
    with pytest.raises(BadInput, match=r"an ensemble of 2 needs 0\.0\d+ GB .* 1e-06 GB are free: .*ensemble.group=1"):
        train.train(vertex_config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("members", "group", "message"), [(0, 0, "members is 0"), (2, 3, "group is 3")])
def test_members_and_groups_must_fit(members, group, message, config):
    config.ensemble.update({"members": members, "group": group})
    with pytest.raises(BadInput, match=message):
        ensemble.seeds(config)
