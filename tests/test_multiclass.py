"""The report of K classes: numbers worked out by hand, empty classes, and what is drawn."""

import json
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy import stats

from jaxhep import multiclass, plots
from jaxhep.errors import BadInput

# Of class a two of three events are right, of b one of two, of c none of one; c is never predicted.
LABELS = np.array([0, 0, 0, 1, 1, 2], np.uint8)
LOGITS = np.log(
    [[0.8, 0.1, 0.1], [0.6, 0.25, 0.15], [0.2, 0.68, 0.12], [0.1, 0.5, 0.4], [0.5, 0.3, 0.2], [0.4, 0.35, 0.25]]
).astype(np.float32)
NAMES = ["a", "b", "c"]


@pytest.fixture
def config():
    config = ConfigDict({"experiment": "third", "model": {"name": "net"}, "ensemble": {"members": 1}})
    config.evaluate = ConfigDict({"confidence": 0.95})
    return config


def measured(config, logits=LOGITS, labels=LABELS, names=NAMES, **columns):
    columns = {"logits": logits, "label": labels, **columns}
    result = multiclass.measure(columns, config, {"classes": names}, {"simulation": None}, None)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    return result


def method_of(result):
    (found,) = result["ranges"]["all"]["methods"].values()
    return found


def test_accuracy_and_confusion_by_hand(config):
    result = measured(config)
    assert {key: result[key] for key in ("task", "experiment", "confidence", "classes")} == {
        "task": "multiclass",
        "experiment": "third",
        "confidence": 0.95,
        "classes": NAMES,
    }
    assert result["ranges"]["all"]["events"] == 6
    method = result["ranges"]["all"]["methods"]["net"]
    assert method["accuracy"] == pytest.approx(3 / 6)
    interval = stats.binomtest(3, 6).proportion_ci(0.95, method="exact")
    assert (method["accuracy_low"], method["accuracy_high"]) == pytest.approx(tuple(interval))
    assert method["trivial_accuracy"] == pytest.approx(3 / 6)
    assert method["confusion"]["counts"] == [[2, 1, 0], [1, 1, 0], [1, 0, 0]]
    assert np.allclose(method["confusion"]["rows"], [[2 / 3, 1 / 3, 0], [1 / 2, 1 / 2, 0], [1, 0, 0]])


def test_one_against_rest_by_hand(config):
    found = method_of(measured(config))["one_against_rest"]
    # a: 0.8, 0.6, 0.2 against 0.1, 0.5, 0.4: of nine pairs 3 + 3 + 1 are in order.
    assert (found["a"]["events"], found["a"]["auc"]) == (3, pytest.approx(7 / 9))
    # b: 0.5, 0.3 against 0.1, 0.25, 0.68, 0.35: of eight pairs 3 + 2.
    assert found["b"]["auc"] == pytest.approx(5 / 8)
    # c: 0.25 against 0.1, 0.15, 0.12, 0.4, 0.2.
    assert found["c"]["auc"] == pytest.approx(4 / 5)
    assert found["c"]["background"] == pytest.approx([0, 0.2, 0.2, 0.4, 0.6, 0.8, 1])
    assert found["c"]["signal"] == [0, 0, 1, 1, 1, 1, 1]


def test_one_against_rest_goes_by_the_probability_not_by_the_logit(config):
    # A constant added to all logits of an event changes no probability.
    shifted = LOGITS + np.array([0, 50, -50, 20, -20, 7], np.float32)[:, None]
    for name, one in method_of(measured(config))["one_against_rest"].items():
        assert method_of(measured(config, shifted))["one_against_rest"][name]["auc"] == pytest.approx(one["auc"])


def test_probabilities_that_round_to_one_are_still_in_order(config):
    logits = np.array([[200.0, 0.0, 0.0], [100.0, 0.0, 0.0], [150.0, 0.0, 0.0]])
    found = method_of(measured(config, logits, np.array([0, 1, 0])))["one_against_rest"]
    assert found["a"]["auc"] == 1


def test_weights_count_where_the_config_says_so(config):
    weight = np.array([1, 1, 1, 1, 1, 5], np.float32)
    assert method_of(measured(config, weight=weight))["accuracy"] == pytest.approx(1 / 2)
    config.evaluate.weighted = True
    result = measured(config, weight=weight)
    method = method_of(result)
    assert result["weighted"]
    assert method["accuracy"] == pytest.approx(3 / 10)
    assert method["trivial_accuracy"] == pytest.approx(5 / 10)
    assert method["confusion"]["counts"][2] == [1, 0, 0]
    assert method["one_against_rest"]["a"]["auc"] == pytest.approx((7 + 7 + 1) / (3 * 7))


def test_an_empty_class_and_no_events_are_null(config):
    method = method_of(measured(config, LOGITS[:5], LABELS[:5]))
    assert method["confusion"]["rows"][2] == [None] * 3
    assert method["one_against_rest"]["c"] == {"events": 0, "auc": None, "background": None, "signal": None}
    assert method["one_against_rest"]["a"]["auc"] == pytest.approx(5 / 6)
    nothing = method_of(measured(config, LOGITS[:0], LABELS[:0]))
    assert (nothing["accuracy"], nothing["trivial_accuracy"]) == (None, None)
    only = method_of(measured(config, LOGITS[:3], LABELS[:3]))
    assert only["one_against_rest"]["a"] == {"events": 3, "auc": None, "background": None, "signal": None}


def test_scores_of_an_ensemble_are_the_mean_of_its_members(config):
    outputs = np.stack([LOGITS, LOGITS + 2])
    columns = multiclass.score_columns(config, outputs)
    np.testing.assert_allclose(columns["logits"], LOGITS + 1, rtol=1e-6)
    np.testing.assert_allclose(columns["logits_spread"], np.ones_like(LOGITS), rtol=1e-6)
    assert multiclass.score_columns(config, LOGITS).keys() == {"logits"}
    config.ensemble.members = 2
    assert list(measured(config)["ranges"]["all"]["methods"]) == ["net ensemble of 2"]


@pytest.mark.parametrize("confidence", [0, 1, 1.5])
def test_a_confidence_that_is_none_is_refused(config, confidence):
    config.evaluate.confidence = float(confidence)
    with pytest.raises(BadInput, match="wanted between 0 and 1"):
        multiclass.check(config)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"names": ["a", "b"]}, "3 outputs for 2 classes: a, b"),
        ({"names": ["a", "b", "a"]}, "the classes are a, b, a"),
        ({"labels": np.array([0, 0, 0, 1, 1, 3])}, "1 events are of no class, the first has label 3: wanted 0 to 2"),
        ({"labels": np.array([0, 0, 0, 1, -1, 3])}, "2 events are of no class, the first has label -1"),
        ({"labels": np.array([0, 0, 0, 1, 1, np.nan])}, "1 events are of no class, the first has label nan"),
        ({"logits": LOGITS[:, :1], "names": ["a"]}, "has 1 output"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(config, changed, message):
    with pytest.raises(BadInput, match=message):
        measured(config, **changed)


def test_classes_without_names_are_numbered(config):
    assert measured(config, names=None)["classes"] == ["class 0", "class 1", "class 2"]


def test_report_says_what_a_class_is_taken_for(config, capsys):
    multiclass.report(measured(config), Path("out"))
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "net: 6 events, accuracy 0.5000 (0.1181 to 0.8819; trivial classifier 0.5000)",
        "  a: 3 events, 66.7 % recognised, AUC against the rest 0.77778, 33.3 % taken for b",
        "  b: 2 events, 50.0 % recognised, AUC against the rest 0.62500, 50.0 % taken for a",
        "  c: 1 events, 0.0 % recognised, AUC against the rest 0.80000, 100.0 % taken for a",
        "metrics and plots: out",
    ]
    multiclass.report(measured(config, LOGITS[:0], LABELS[:0]), Path("out"))
    assert "net: 0 events, nothing to count\n  a: no events\n" in capsys.readouterr().out


def test_runs_are_compared_side_by_side(config, tmp_path, capsys):
    found = {"one": measured(config), "two": measured(config, LOGITS[:5], LABELS[:5])}
    found["none"] = measured(config, LOGITS[:0], LABELS[:0])
    merged = multiclass.compare(found, {}, False, tmp_path)
    assert json.loads((tmp_path / "comparison.json").read_text()) == merged
    assert (merged["reference"], merged["same_events"], merged["classes"]) == ("one", False, NAMES)
    assert list(merged["ranges"]["all"]["methods"]) == ["one", "two", "none"]
    table = (tmp_path / "comparison.md").read_text()
    assert table == capsys.readouterr().out
    mean = np.mean([7 / 9, 5 / 8, 4 / 5])
    assert f"| 6 | one | 0.5000 (0.1181 to 0.8819) | 0.5000 | {mean:.5f} | 0.62500 (b) |\n" in table
    assert "| 0 | none | - | - | - | - |\n" in table
    found["other"] = measured(config, names=["a", "b", "d"])
    with pytest.raises(BadInput, match="other: classes a, b, d, one: a, b, c: not comparable"):
        multiclass.compare(found, {}, False, tmp_path)


@pytest.mark.draws
@pytest.mark.parametrize("events", [6, 5, 0])
def test_plots_hold_the_numbers_of_the_json(config, events, monkeypatch):
    kept = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: kept.append(figure) or [])
    result = measured(config, LOGITS[:events], LABELS[:events])
    multiclass.draw(result, {}, config, Path("unused"))
    confusion, roc = kept
    for figure in kept:
        figure.draw_without_rendering()
    image = confusion.axes[0].images[0].get_array()
    wanted = np.array(method_of(result)["confusion"]["rows"], float)
    np.testing.assert_array_equal(np.ma.filled(image, np.nan), wanted)
    assert [text.get_text() for text in confusion.axes[0].get_xticklabels()] == NAMES
    texts = [text.get_text() for text in confusion.axes[0].texts]
    names = [text.get_text() for text in roc.axes[0].get_legend().get_texts()]
    if events == 6:
        assert texts[:3] == ["66.7 %\n2", "33.3 %\n1", "0.0 %\n0"]
        assert names == ["a, AUC 0.7778", "b, AUC 0.6250", "c, AUC 0.8000"]
        np.testing.assert_array_equal(
            roc.axes[0].lines[3].get_ydata(), method_of(result)["one_against_rest"]["c"]["signal"]
        )
    if events == 5:
        assert texts[6:] == ["-\n0"] * 3
        assert names[2] == "c: no events"
