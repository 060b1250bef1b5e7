"""Metrics of the vertex: known distributions, intervals, slices, and few or no events."""

import json

import numpy as np
import pytest
from scipy import stats

from jaxhep.alpha_g import residuals
from jaxhep.errors import BadInput


def draw(kind: str, events: int, seed: int = 0) -> np.ndarray:
    """Return residuals whose peak has a full width at half maximum of 10 mm, or nearly."""
    generator = np.random.default_rng(seed)
    if kind == "lorentzian":
        return 5 * generator.standard_cauchy(events)
    core = generator.normal(0, 10 / 2.35482, events)
    if kind == "tails":  # three in ten are 15 times as wide, which widens the peak itself by 2 %
        return np.where(generator.random(events) < 0.3, 15 * core, core) / 1.0199
    return core


@pytest.mark.parametrize(("events", "repeats", "bias"), [(100, 150, 0.08), (1000, 80, 0.05), (30_000, 10, 0.03)])
@pytest.mark.parametrize("kind", ["gaussian", "tails", "lorentzian"])
def test_full_width_at_half_maximum_is_unbiased(kind, events, repeats, bias):
    widths = [residuals.fwhm(draw(kind, events, seed)) for seed in range(repeats)]
    assert np.mean(widths) == pytest.approx(10, rel=bias)


def test_width_moves_and_scales_with_the_residuals():
    values = draw("tails", 2000)
    assert residuals.fwhm(values + 300) == pytest.approx(residuals.fwhm(values), rel=0.02)
    assert residuals.fwhm(-40 * values) == pytest.approx(40 * residuals.fwhm(values), rel=0.02)
    far = np.concatenate([values, np.full(200, 1e9), [np.nan, np.inf]])
    assert residuals.fwhm(far) == pytest.approx(residuals.fwhm(values), rel=0.03)
    assert residuals.fwhm(np.ones(100)) == 0
    assert residuals.fwhm(values[:29]) is None


def test_interval_of_the_width_covers_as_it_says():
    limits = [residuals.fwhm_interval(draw("gaussian", 1000, seed), 0.683) for seed in range(100)]
    assert 0.55 < np.mean([low < 10 < high for _, low, high in limits]) < 0.80
    value, low, high = residuals.fwhm_interval(draw("gaussian", 1000), 0.95)
    assert (value, low, high) == residuals.fwhm_interval(draw("gaussian", 1000), 0.95)
    assert np.log(high / low) == pytest.approx(1.96 * np.log(limits[0][2] / limits[0][1]), rel=0.01)


def test_gaussian_core_is_that_of_the_sample_and_so_are_its_errors():
    fits = [residuals.gaussian_core(np.random.default_rng(seed).normal(1.5, 4, 1000)) for seed in range(40)]
    for name, wanted in (("mean", 1.5), ("sigma", 4)):
        values, errors = (np.array([fit[key] for fit in fits]) for key in (name, f"{name}_error"))
        assert values.mean() == pytest.approx(wanted, abs=4 * errors.mean() / np.sqrt(40))
        assert 0.75 < (values.std() / errors).mean() < 1.3
    fit = residuals.gaussian_core(np.concatenate([draw("gaussian", 20_000), [-60, 50, 51, 52]]))
    assert sum(fit["counts"]) + fit["below"] + fit["above"] == 20_004
    assert (fit["below"], fit["above"]) == (1, 2)
    assert fit["amplitude"] == pytest.approx(20_000 / (fit["sigma"] * np.sqrt(2 * np.pi)), rel=0.03)


def test_no_gaussian_where_there_is_none():
    few = residuals.gaussian_core(draw("gaussian", 25))
    flat = residuals.gaussian_core(np.random.default_rng(0).uniform(-500, 500, 20_000))
    wide = residuals.gaussian_core(np.random.default_rng(0).normal(0, 60, 20_000))  # the window holds no shoulder
    for fit in (few, flat, wide, residuals.gaussian_core(np.full(500, 900.0)), residuals.gaussian_core(np.zeros(0))):
        assert fit["sigma"] is None and fit["mean"] is None
    assert sum(few["counts"]) == 25


def test_trimmed_moments_and_their_errors():
    cut = residuals.trimmed(np.concatenate([np.arange(90.0), np.full(5, 1e6), np.full(5, -1e6)]))
    assert (cut.mean, cut.std) == pytest.approx((44.5, np.std(np.arange(90), ddof=1)))
    samples = [residuals.trimmed(np.random.default_rng(seed).normal(3, 2, 400)) for seed in range(200)]
    for name, wanted in (("mean", 3), ("std", 2 * 0.78931)):
        values, errors = (np.array([getattr(one, key) for one in samples]) for key in (name, f"{name}_error"))
        assert values.mean() == pytest.approx(wanted, rel=0.015)
        assert values.std() == pytest.approx(errors.mean(), rel=0.2)
    assert residuals.trimmed(np.zeros(0)) == (None,) * 4
    assert residuals.trimmed(np.array([7.0])) == (7.0, None, None, None)


def test_each_event_is_in_one_slice_of_z():
    z = np.concatenate([np.linspace(-1152, 1152, 24 * 40 + 1), [1153, -1153]])
    slices = residuals.bias_vs_z(np.full(len(z), 2.5), z)
    assert [part["events"] for part in slices] == [40] * 23 + [41]
    assert {part["trimmed_mean"] for part in slices} == {2.5}
    assert (slices[0]["z_low"], slices[-1]["z_high"]) == (-1152, 1152)


def test_sliced_bias_adds_twenty_slices_of_100_mm():
    z = np.linspace(-1151, 1151, 20_000)
    assert residuals.sliced_bias(np.full(len(z), -0.5), z) == pytest.approx(20 * 0.5)
    assert residuals.sliced_bias(np.where(np.abs(z) > 1000, 1e3, 0.0), z) == 0
    alternating = np.where(np.floor(z / 100) % 2 == 0, 3.0, -1.0)  # signs do not cancel
    assert residuals.sliced_bias(alternating, z) == pytest.approx(40)
    assert residuals.sliced_bias(np.ones(2), np.array([5.0, 6.0])) == 1
    assert residuals.sliced_bias(np.zeros(0), np.zeros(0)) is None


def test_resolution_in_bins_finds_what_depends_on_the_variable():
    generator = np.random.default_rng(2)
    points = np.repeat([30, 120, 2000], [3000, 3000, 20])
    residual = generator.normal(0, np.where(points < 50, 9, 3))
    residual[:600] = np.nan
    first, second, third, *_, last = residuals.resolution_in_bins(residual, points, residuals.POINT_EDGES)
    assert (first["events"], first["reconstructed"], first["efficiency"]) == (3000, 2400, 0.8)
    assert first["fwhm"] / third["fwhm"] == pytest.approx(3, rel=0.15)
    assert third["fwhm_low"] < third["fwhm"] < third["fwhm_high"]
    assert third["trimmed_std_low"] < 3 * 0.78931 < third["trimmed_std_high"]
    assert (second["events"], second["fwhm"], second["centre"]) == (0, None, None)
    assert (last["events"], last["high"], last["fwhm"]) == (20, None, None)
    assert last["trimmed_std"] > 0


@pytest.mark.parametrize("distribution", ["gaussian", "laplace"])
def test_honest_widths_give_unit_pulls_and_nominal_coverage(distribution):
    generator = np.random.default_rng(3)
    width = generator.uniform(1, 8, 20_000)
    residual = generator.normal(0, width) if distribution == "gaussian" else generator.laplace(0, width)
    pull = residuals.pulls(residual, width, distribution, 0.999)
    assert pull["std"] == pytest.approx(1, rel=0.03)
    assert pull["trimmed_std"] == pytest.approx(pull["trimmed_std_expected"], rel=0.03)
    assert [part["nominal"] for part in pull["coverage"]] == [0.5, 0.683, 0.9, 0.95]
    assert all(part["low"] < part["nominal"] < part["high"] for part in pull["coverage"])
    narrow = residuals.pulls(residual, width / 2, distribution)
    assert narrow["std"] == pytest.approx(2, rel=0.03)
    assert narrow["coverage"][1]["high"] < 0.5


def test_events_without_a_width_are_counted():
    pull = residuals.pulls(np.array([1.0, 2.0, np.nan, 3.0]), np.array([1.0, 0.0, 1.0, np.nan]))
    assert (pull["events"], pull["without_width"]) == (1, 2)
    with pytest.raises(
        BadInput, match=r"distribution of residuals is 'laplac', wanted one of gaussian, laplace \(nearest: 'laplace'\)"
    ):
        residuals.pulls(np.zeros(1), np.ones(1), "laplac")


def sample(events: int, seed: int = 4):
    generator = np.random.default_rng(seed)
    truth = np.concatenate([generator.normal(0, 10, (events, 2)), generator.uniform(-1152, 1152, (events, 1))], 1)
    prediction = truth + generator.normal(0, [8, 6, 3], (events, 3))
    prediction[: events // 5, generator.integers(3)] = np.nan
    return prediction, truth, generator.integers(5, 1500, events), generator.choice([0, 2, 4, 6], events)


@pytest.mark.parametrize("events", [0, 1, 5, 40, 3000])
@pytest.mark.parametrize("dimensions", [1, 3])
def test_every_size_of_sample_goes_through_json(events, dimensions):
    prediction, truth, points, pions = sample(events)
    if dimensions == 1:
        prediction, truth = prediction[:, 2], truth[:, 2]
    result = residuals.vertex_method(
        prediction, truth, points, pions, 0.683, width=np.full(events, 3.0), spread=np.ones(prediction.shape)
    )
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["reconstructed"] == sum(result["histogram"]["counts"]) + sum(
        result["histogram"][side] for side in ("below", "above")
    )
    for key in ("resolution_vs_points", "resolution_vs_multiplicity"):
        assert sum(part["events"] for part in result[key]) == events
    assert sum(part["events"] for part in result["bias_vs_z"]) == result["reconstructed"]
    assert ("distance" in result) == (dimensions == 3)


def test_metrics_of_one_method_in_three_dimensions():
    prediction, truth, points, pions = sample(3000)
    result = residuals.vertex_method(prediction, truth, points, pions, 0.95, width=np.full((3000, 3), [8, 6, 3.0]))
    assert (result["events"], result["reconstructed"], result["efficiency"]) == (3000, 2400, 0.8)
    assert result["efficiency_low"] < 0.8 < result["efficiency_high"]
    assert result["residual"]["gauss_sigma"] == pytest.approx(3, rel=0.1)
    assert result["coordinates"]["x"]["residual"]["rms"] == pytest.approx(8, rel=0.05)
    assert result["coordinates"]["y"]["residual"]["rms"] == pytest.approx(6, rel=0.05)
    seen = np.isfinite(prediction).all(1)
    assert result["distance"]["median"] == pytest.approx(
        np.median(np.sqrt(((prediction - truth)[seen] ** 2).sum(1))), rel=1e-12
    )
    assert result["correlation"] == pytest.approx(stats.pearsonr(prediction[seen, 2], truth[seen, 2])[0], abs=1e-12)
    assert result["pull"]["std"] == pytest.approx(1, rel=0.05)
    assert result["pull_spread"] is None
    only_z = residuals.vertex_method(np.where(seen, prediction[:, 2], np.nan), truth, None, None, 0.95)
    assert only_z["residual"] == result["residual"]
    assert only_z["resolution_vs_points"] == [] and only_z["pull"] is None


def test_nothing_reconstructed_is_an_efficiency_of_zero():
    result = residuals.vertex_method(np.full(50, np.nan), np.zeros(50), None, None, 0.95)
    assert (result["efficiency"], result["correlation"], result["sliced_bias"]) == (0, None, None)
    assert result["efficiency_high"] == pytest.approx(1 - 0.025 ** (1 / 50))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(3), np.zeros(4), None, None, 0.9), r"predictions \(3,\) and truths \(4,\)"),
        ((np.zeros((3, 2)), np.zeros((3, 2)), None, None, 0.9), r"wanted \(N,\) or \(N, 3\)"),
        ((np.zeros(3), np.zeros(3), np.zeros(2), None, 0.9), "2 points for 3 events"),
        ((np.zeros(2), np.array([0, np.nan]), None, None, 0.9), "1 true coordinates are not finite"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, message):
    with pytest.raises(BadInput, match=message) as raised:
        residuals.vertex_method(*arguments)
    assert "\n" not in str(raised.value)
