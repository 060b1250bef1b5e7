"""Operations per event: the count by hand against XLA's, and its parts."""

import json

import pytest

from benchmarks import limits, operations

KNOWN_MFLOP = {"mlp": 0.383, "cnn": 3.70, "resnet10": 68.1, "resnet18": 149.2, "cvt": 4423, "pointnet": 463.8}


@pytest.mark.parametrize("model", operations.MODELS)
def test_forward_operations_are_those_of_the_published_layouts(model):
    assert operations.by_hand(model) / 1e6 == pytest.approx(KNOWN_MFLOP[model], rel=2e-3)


@pytest.mark.parametrize("model", operations.MODELS)
def test_xla_counts_the_same_without_the_zeros_of_paddings(model):
    # XLA adds activations, norms and softmax: most in the CvT, whose scores alone are 756 x 756.
    hand, xla = operations.by_hand(model, padded=False), operations.by_xla(model)
    assert 1.0 < xla / hand < (1.035 if model == "cvt" else 1.02)


def test_a_dense_layer_and_a_convolution():
    assert operations.dense(3, 4, 5) == 32
    # 2 x 3 cells, 3 x 3 window, padding 1: 9 positions of 9 taps, of which 4 x 7 meet data.
    around = ((1, 1), (1, 1))
    assert operations.convolution((2, 3, 5), 7, (3, 3), (1, 1), around, True) == (6 * 9 * 35, (2, 3, 7))
    assert operations.convolution((2, 3, 5), 7, (3, 3), (1, 1), around, False) == (4 * 7 * 35, (2, 3, 7))
    assert operations.positions(18, 7, 2, (3, 3)) == 9


def test_points_count_but_for_the_heads():
    one, two = (operations.by_hand("pointnet", points) for points in (100, 200))
    assert two - one == 2 * 100 * 286912
    assert operations.by_xla("pointnet", 100) == pytest.approx(one, rel=0.04)


def test_the_command_prints_rows(capsys):
    operations.main(["--models", "mlp,cnn", "--json"])
    mlp, cnn = map(json.loads, capsys.readouterr().out.splitlines())
    assert mlp["by_hand"] == mlp["by_hand_unpadded"] == 383160
    assert cnn["by_hand_unpadded"] < cnn["by_xla"] < cnn["by_hand"]
    operations.main(["--models", "mlp"])
    assert "| mlp | 0.38 | 0.38 | 0.38 MFLOP | 1.00" in capsys.readouterr().out


def test_a_limit_grows_its_matrix_until_the_product_takes_long_enough(monkeypatch):
    # A machine of 2 * 10^12 operations/s, whose time is what it would take.
    clock = {"now": 0.0}
    monkeypatch.setattr(limits.time, "perf_counter", lambda: clock["now"])

    def multiply(dtype, side):
        def run(count):
            clock["now"] += count * 2 * side**3 / 2e12

        return run

    assert limits.grown(multiply, "float32", 0.2) == 5632  # (0.2 * 10^12)^(1/3), down to a multiple of 256
    count, timings = limits.repeated(multiply("float32", 1000), 0.2)
    assert count == 200
    assert timings == pytest.approx([0.2] * 5)


def test_limits_of_this_machine(monkeypatch):
    monkeypatch.setitem(limits.COPIED, "cpu", 2**22)
    rows = limits.limit_rows("jax", 0.001)
    assert [(row["limit"], row.get("dtype")) for row in rows] == [
        ("product", "float32"), ("product", "bfloat16"), ("copy", None)
    ]  # fmt: skip
    assert all(1e8 < row["min"] <= row["per_s"] <= row["max"] < 1e14 for row in rows)
    assert rows[0]["float32_products"] == "float32"
