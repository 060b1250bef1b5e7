"""Intervals, thresholds and curves: published numbers, coverage, weights and borders."""

import numpy as np
import pytest
from scipy import stats

from jaxhep import statistics
from jaxhep.statistics import Measured


def test_clopper_pearson_against_published_values():
    # 5 of 50 at 95 %: 0.0333 to 0.2181 (any table of exact binomial limits); none of 50: 0 to 1 - 0.025^(1/50).
    assert statistics.clopper_pearson(5, 50, 0.95) == pytest.approx((0.03328, 0.21814), abs=1e-5)
    assert statistics.clopper_pearson(0, 50, 0.95) == pytest.approx((0, 1 - 0.025 ** (1 / 50)))
    assert statistics.clopper_pearson(50, 50, 0.95) == pytest.approx((0.025 ** (1 / 50), 1))
    assert statistics.clopper_pearson(0, 0, 0.95) == (0, 1)


@pytest.mark.parametrize("confidence", [0.683, 0.95, 0.999])
@pytest.mark.parametrize(("passed", "total"), [(0, 1), (1, 1), (0, 3805), (3, 3805), (3805, 3805), (7, 10), (250, 500)])
def test_clopper_pearson_is_that_of_scipy(passed, total, confidence):
    wanted = stats.binomtest(passed, total).proportion_ci(confidence, method="exact")
    assert statistics.clopper_pearson(passed, total, confidence) == pytest.approx(tuple(wanted), rel=1e-9)


@pytest.mark.parametrize("confidence", [0.683, 0.95])
@pytest.mark.parametrize(
    ("total", "probability"), [(10, 0.3), (50, 0.05), (200, 0.03), (200, 0.985), (1435, 0.0025), (3805, 0.0008)]
)
def test_intervals_cover_at_least_their_confidence(total, probability, confidence):
    passed = np.arange(total + 1)
    chance = stats.binom.pmf(passed, total, probability)
    covering = [
        low <= probability <= high
        for low, high in (statistics.clopper_pearson(count, total, confidence) for count in passed)
    ]
    assert chance[covering].sum() >= confidence


def test_the_fraction_of_whole_events_has_their_interval():
    passed = np.arange(40) < 7
    found = statistics.weighted_fraction(passed, np.ones(40), 0.9)
    assert found == pytest.approx((7 / 40, *statistics.clopper_pearson(7, 40, 0.9)))


def test_weights_leave_the_fraction_and_widen_its_interval():
    # Weights 1 and 3 in turn: 4 n / 5 effective events of n.
    weights = np.tile([1.0, 3.0], 50)
    found = statistics.weighted_fraction(np.repeat([True, False], 50), weights, 0.95)
    assert found == pytest.approx((0.5, *statistics.clopper_pearson(40, 80, 0.95)))
    assert statistics.weighted_fraction(np.zeros(3, bool), 5 * np.ones(3), 0.95) == pytest.approx(
        (0, *statistics.clopper_pearson(0, 3, 0.95))
    )
    assert statistics.weighted_fraction(np.zeros(0, bool), np.zeros(0), 0.95) == (0, 0, 1)


def test_ratio_adds_the_errors_of_the_logarithms_in_squares():
    found = statistics.ratio(Measured(200, 150, 300), Measured(100, 80, 130))
    assert found.value == 2
    assert found.low == pytest.approx(2 * np.exp(-np.hypot(np.log(200 / 150), np.log(1.3))))
    assert found.high == pytest.approx(2 * np.exp(np.hypot(np.log(1.5), np.log(100 / 80))))


@pytest.mark.parametrize("efficiency", [0.5, 0.9, 0.99])
def test_threshold_keeps_just_what_is_wanted(efficiency):
    scores = np.random.default_rng(1).normal(size=1000)
    threshold = statistics.threshold_at(scores, np.ones(1000), efficiency)
    assert np.mean(scores >= threshold) == pytest.approx(efficiency)


def test_threshold_counts_weights():
    assert statistics.threshold_at(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 8.0]), 0.8) == 3
    assert statistics.threshold_at(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 8.0]), 0.85) == 2


def test_area_under_the_curve_counts_pairs():
    scores, signal = np.array([1.0, 2.0, 2.0, 3.0]), np.array([False, False, True, True])
    # Of four pairs three are in order and one is a tie.
    assert statistics.auc(scores, signal, np.ones(4)) == pytest.approx(3.5 / 4)
    assert statistics.auc(scores, signal, np.array([3.0, 1.0, 1.0, 1.0])) == pytest.approx((4 + 3.5) / 8)
    assert statistics.auc(scores, np.ones(4, bool), np.ones(4)) is None
    assert statistics.auc(scores, signal, np.array([0.0, 0.0, 1.0, 1.0])) is None


def test_roc_curve_by_hand():
    scores, signal = np.array([1.0, 2.0, 2.0, 3.0]), np.array([False, False, True, True])
    background, above = statistics.roc_curve(scores, signal, np.ones(4))
    assert (background.tolist(), above.tolist()) == ([0, 0, 0.5, 1], [0, 0.5, 1, 1])
    assert statistics.roc_curve(scores, ~np.ones(4, bool), np.ones(4)) is None
    assert statistics.roc_curve(np.zeros(0), np.zeros(0, bool), np.zeros(0)) is None


def test_roc_curve_of_many_events_is_short_and_keeps_its_area():
    generator = np.random.default_rng(2)
    signal = generator.random(20_000) < 0.1
    scores = generator.normal(size=20_000) + 3 * signal
    background, above = statistics.roc_curve(scores, signal, np.ones(20_000), points=100)
    assert len(background) <= 200
    assert (background[0], above[0], background[-1], above[-1]) == (0, 0, 1, 1)
    assert (np.diff(background) >= 0).all() and (np.diff(above) >= 0).all()
    area = statistics.auc(scores, signal, np.ones(20_000))
    assert np.trapezoid(above, background) == pytest.approx(area, abs=1e-3)
