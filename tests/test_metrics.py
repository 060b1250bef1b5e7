"""Figures of merit: known numbers, coverage, limits."""

import numpy as np
import pytest
from scipy import stats

from jaxhep import metrics


def test_clopper_pearson_against_published_values():
    # 5 of 50 at 95 %: 0.0333 to 0.2181 (any table of exact binomial limits); none of 50, one-sided: 1 - 0.05^(1/50).
    assert metrics.clopper_pearson(5, 50, 0.95) == pytest.approx((0.03328, 0.21814), abs=1e-5)
    assert metrics.clopper_pearson(0, 50, 0.95) == pytest.approx((0, 1 - 0.05 ** (1 / 50)))
    assert metrics.clopper_pearson(50, 50, 0.95) == pytest.approx((0.05 ** (1 / 50), 1))


def test_intervals_cover_at_least_their_confidence():
    passed = np.random.default_rng(0).binomial(200, 0.03, 2000)
    covered = [low <= 0.03 <= high for low, high in (metrics.clopper_pearson(k, 200, 0.9) for k in passed)]
    assert 0.9 <= np.mean(covered) < 0.97


@pytest.mark.parametrize("efficiency", [0.5, 0.9, 0.99])
def test_threshold_keeps_just_the_wanted_electrons(efficiency):
    scores = np.random.default_rng(1).normal(size=1000)
    threshold = metrics.threshold_at(scores, np.ones(1000), efficiency)
    assert np.mean(scores >= threshold) == pytest.approx(efficiency)


def sample(electrons=1000, protons=5000, seed=0):
    generator = np.random.default_rng(seed)
    scores = np.concatenate([generator.normal(2, 1, electrons), generator.normal(-2, 1, protons)])
    labels = np.concatenate([np.ones(electrons), np.zeros(protons)]).astype(int)
    energies = np.exp(generator.uniform(np.log(200), np.log(2000), electrons + protons))
    return scores, labels, energies


def classify(scores, labels, energies, weights=None, **keywords):
    weights = np.ones(len(scores)) if weights is None else weights
    return metrics.classification(scores, labels, energies, weights, (200.0, 600.0, 2000.0), 0.9, 0.95, **keywords)


def test_rejection_of_two_gaussians_is_the_analytic_one():
    result = classify(*sample(200_000, 200_000))
    point = metrics.at_efficiency(result, 0.9)
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
    point = metrics.at_efficiency(result, 0.9)
    assert (point["proton_rejection"], point["high"], point["misidentified"]) == (None, None, 0)
    assert point["low"] == pytest.approx(1 / (1 - 0.05 ** (1 / 300)))


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
    moved, own = (metrics.at_efficiency(result, 0.9, source) for source in ("training", "test"))
    assert own["electron_efficiency"] == pytest.approx(0.9, abs=1e-3)
    assert moved["threshold"] == metrics.at_efficiency(trained, 0.9)["threshold"]
    assert moved["electron_efficiency"] < 0.7 and moved["proton_rejection"] > own["proton_rejection"]


def test_weights_count_as_repeated_events():
    scores, labels, energies = sample(500, 500)
    double = np.concatenate([np.arange(1000), np.flatnonzero(labels == 0)])
    weighted = classify(scores, labels, energies, np.where(labels == 0, 2.0, 1.0))
    repeated = classify(scores[double], labels[double], energies[double])
    one, two = metrics.at_efficiency(weighted, 0.9), metrics.at_efficiency(repeated, 0.9)
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
    point = metrics.at_efficiency(classify(scores, labels, energies, trained=trained), 0.9, "training")
    assert point["proton_rejection"] == pytest.approx(metrics.at_efficiency(trained, 0.9)["proton_rejection"], rel=0.5)


def test_ratio_of_rejections():
    def point(value, low, high):
        return {"proton_rejection": value, "low": low, "high": high}

    result = metrics.ratio(point(200, 150, 300), point(100, 80, 130))
    assert result["ratio"] == 2
    assert result["low"] == pytest.approx(2 * np.exp(-np.hypot(np.log(200 / 150), np.log(1.3))))
    assert metrics.ratio(point(None, 150, None), point(100, 80, 130))["ratio"] is None
