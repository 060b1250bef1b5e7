"""Electrons against protons: known rejections, limits, thresholds and weights."""

import numpy as np
import pytest
from scipy import stats

from jaxhep.ams_ecal import rejection


def sample(electrons=1000, protons=5000, seed=0):
    generator = np.random.default_rng(seed)
    scores = np.concatenate([generator.normal(2, 1, electrons), generator.normal(-2, 1, protons)])
    labels = np.concatenate([np.ones(electrons), np.zeros(protons)]).astype(int)
    energies = np.exp(generator.uniform(np.log(200), np.log(2000), electrons + protons))
    return scores, labels, energies


def classify(scores, labels, energies, weights=None, **keywords):
    weights = np.ones(len(scores)) if weights is None else weights
    return rejection.classification(scores, labels, energies, weights, (200.0, 600.0, 2000.0), 0.9, 0.95, **keywords)


def test_rejection_of_two_gaussians_is_the_analytic_one():
    result = classify(*sample(200_000, 200_000))
    point = rejection.at_efficiency(result, 0.9)
    wanted = 1 / stats.norm.sf(4 - stats.norm.ppf(0.9))  # protons lie four sigma below the electrons
    assert point["proton_rejection"] == pytest.approx(wanted, rel=0.05)
    assert point["low"] < wanted < point["high"]
    assert point["electron_efficiency"] == pytest.approx(0.9, abs=1e-4)
    assert result["auc"] == pytest.approx(stats.norm.cdf(4 / np.sqrt(2)), abs=2e-4)
    assert result["accuracy"] == pytest.approx(stats.norm.cdf(2), abs=2e-3)
    assert result["trivial_accuracy"] == 0.5


def test_nothing_passing_gives_a_lower_limit_and_no_infinity():
    scores, labels, energies = sample(100, 300)
    result = classify(np.where(labels == 1, scores + 100, scores), labels, energies)
    point = rejection.at_efficiency(result, 0.9)
    assert (point["proton_rejection"], point["high"], point["misidentified"]) == (None, None, 0)
    assert point["low"] == pytest.approx(1 / (1 - 0.025 ** (1 / 300)))
    assert point["low"] == rejection.none_above(300, 0.95)


def test_threshold_per_bin_and_global_differ_where_scores_drift_with_energy():
    scores, labels, energies = sample(20_000, 20_000)
    result = classify(scores + np.log(energies), labels, energies)
    per_bin = [point for point in result["rejection_vs_energy"] if point["threshold_source"] == "bin"]
    overall = [point for point in result["rejection_vs_energy"] if point["threshold_source"] == "range"]
    assert [point["electron_efficiency"] for point in per_bin] == pytest.approx([0.9, 0.9], abs=1e-3)
    assert overall[0]["electron_efficiency"] < 0.88 < 0.92 < overall[1]["electron_efficiency"]
    assert overall[0]["threshold"] == overall[1]["threshold"]


def test_thresholds_from_training_are_applied_to_other_events():
    trained = classify(*sample(5000, 5000, seed=1))
    scores, labels, energies = sample(5000, 5000, seed=2)
    result = classify(scores - 1, labels, energies, trained=trained)
    moved, own = (rejection.at_efficiency(result, 0.9, source) for source in ("training", "test"))
    assert own["electron_efficiency"] == pytest.approx(0.9, abs=1e-3)
    assert moved["threshold"] == rejection.at_efficiency(trained, 0.9)["threshold"]
    assert moved["electron_efficiency"] < 0.7 and moved["proton_rejection"] > own["proton_rejection"]


def test_weights_count_as_repeated_events():
    scores, labels, energies = sample(500, 500)
    double = np.concatenate([np.arange(1000), np.flatnonzero(labels == 0)])
    weighted = classify(scores, labels, energies, np.where(labels == 0, 2.0, 1.0))
    repeated = classify(scores[double], labels[double], energies[double])
    one, two = rejection.at_efficiency(weighted, 0.9), rejection.at_efficiency(repeated, 0.9)
    assert one["proton_rejection"] == pytest.approx(two["proton_rejection"])
    assert one["low"] < two["low"]  # weights tell nothing that the events did not
    assert weighted["auc"] == pytest.approx(repeated["auc"])
    assert weighted["accuracy"] == pytest.approx(repeated["accuracy"])


def test_empty_classes_and_ranges_are_reported_not_raised():
    empty = classify(np.zeros(0), np.zeros(0, int), np.zeros(0))
    assert (empty["events"], empty["auc"], empty["rejection"]) == (0, None, [])
    only = classify(np.ones(5), np.ones(5, int), np.full(5, 300.0))
    assert only["auc"] is None and only["rejection_vs_energy"] == []


def test_protons_alone_are_scored_at_the_thresholds_of_training():
    trained = classify(*sample(5000, 5000, seed=1))
    scores, labels, energies = sample(0, 5000, seed=2)
    point = rejection.at_efficiency(classify(scores, labels, energies, trained=trained), 0.9, "training")
    assert point["proton_rejection"] == pytest.approx(
        rejection.at_efficiency(trained, 0.9)["proton_rejection"], rel=0.5
    )


def test_ratio_of_rejections():
    def point(value, low, high):
        return {"proton_rejection": value, "low": low, "high": high}

    result = rejection.ratio(point(200, 150, 300), point(100, 80, 130))
    assert result["ratio"] == 2
    assert result["low"] == pytest.approx(2 * np.exp(-np.hypot(np.log(200 / 150), np.log(1.3))))
    assert rejection.ratio(point(None, 150, None), point(100, 80, 130))["ratio"] is None
