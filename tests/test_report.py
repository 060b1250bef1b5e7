"""Tables and plots of measured throughput: what is read, compared, counted and written."""

import json
import shutil

import pytest
from conftest import ROOT

from benchmarks import limits, operations, report
from benchmarks.rows import best_rows, newest, ratio_of

KNOWN_MFLOP = {"mlp": 0.383, "cnn": 3.70, "resnet10": 68.1, "resnet18": 149.2, "cvt": 4423, "pointnet": 463.8}
MARKED = "before\n<!-- throughput:begin -->\nold\n<!-- throughput:end -->\nafter\n"


def row(framework, rates, batch=128, mode="train", began="one", **more):
    middle = sorted(rates)[len(rates) // 2]
    known = {"kind": "row", "model": "mlp", "batch": batch, "asked_batch": batch, "mode": mode, "points": 0}
    known |= {"framework": framework, "variant": "float32", "dtype": "float32", "device": "gpu H200", "devices": 1}
    known |= {
        "asked_devices": 0,
        "group": "base",
        "members": 1,
        "load": 1.0,
        "date": "2026-11-22T10:00:00+00:00",
        "commit": "abc",
        "cores": 2,
        "cell_began": began,
    }
    known |= {"rates": rates, "events_per_s": middle, "min": min(rates), "max": max(rates), "compile_s": 1.0}
    return {**known, "peak_bytes": 2**28, "flop_per_event": 1e6, "alternated": True, **more}


def limit(value, dtype="float32", framework="jax"):
    return {"kind": "limit", "limit": "product", "framework": framework, "dtype": dtype, "per_s": value,
            "float32_products": "TF32"}  # fmt: skip


def write(tmp_path, rows, name="box"):
    results = tmp_path / "results"
    results.mkdir(exist_ok=True)
    (results / f"throughput_{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "README.md").write_text(MARKED)
    return ["--results", str(results), "--readme", str(tmp_path / "README.md")]


def test_the_ratio_is_pair_by_pair_within_a_run_and_of_medians_beyond():
    ours, theirs = row("jax", [1.0, 4.0, 9.0]), row("torch", [1.0, 2.0, 3.0])
    assert ratio_of({"jax": ours, "torch": theirs}) == {"ratio": 2.0, "min": 1.0, "max": 3.0, "pairs": 3}
    other = row("torch", [1.0, 2.0, 3.0], began="another")
    assert ratio_of({"jax": ours, "torch": other}) == {"ratio": 2.0, "min": 1 / 3, "max": 9.0, "pairs": 0}
    alone = theirs | {"alternated": False}
    assert ratio_of({"jax": ours, "torch": alone})["pairs"] == 0
    assert ratio_of({"jax": ours}) == {}


def test_on_several_accelerators_the_ratio_is_per_device():
    ours, theirs = row("jax", [8.0] * 3, devices=4), row("torch", [1.0] * 3)
    assert ratio_of({"jax": ours, "torch": theirs})["ratio"] == 2.0
    on_cpu = [found | {"device": "cpu"} for found in (ours, theirs)]
    assert ratio_of(dict(zip(("jax", "torch"), on_cpu, strict=True)))["ratio"] == 8.0


def test_the_newest_row_counts_unless_it_was_skipped():
    first, second = row("jax", [1.0] * 3), row("jax", [2.0] * 3)
    names = ("kind", "model", "batch", "asked_batch", "asked_devices", "points", "mode", "framework", "variant")
    skipped = {**{name: first[name] for name in names}, "skipped": "x"}
    assert [found["events_per_s"] for found in newest([first, second, skipped])] == [2.0]
    assert newest([skipped]) == [skipped]


def test_tables_have_best_variants_ratio_operations_limit_and_memory(tmp_path, capsys):
    half = row("jax", [5e3] * 5, variant="bfloat16", dtype="bfloat16")
    rows = [limit(1e10), limit(2e10, framework="torch"), limit(4e10, "bfloat16")]
    rows += [{"kind": "limit", "limit": "copy", "framework": "jax", "per_s": 3e10, "float32_products": "TF32"}]
    rows += [
        row("jax", [4e3] * 5),
        half,
        row("torch", [2e3] * 5, batch=64, asked_batch=128),
        row("jax", [9.0], mode="infer"),
    ]
    report.main(write(tmp_path, rows))
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    line = "| mlp | train | 128 | 5,000 (bfloat16) | 2,000 (float32, batch 64) | 2.50 (2.50-2.50) | 1 | 12.5 / 10.0 | 256 / 256 |"
    assert line in text
    assert "| mlp | infer | 128 | 9 (float32, 1 rounds) | not measured | - | 1 |" in text
    assert "matrix product float32 0.02 TFLOP/s, bfloat16 0.04 TFLOP/s (float32 as TF32), copy 30 GB/s" in text
    assert "(results/throughput_box.png)" in text
    variants = (tmp_path / "results" / "variants.md").read_text()
    assert "| mlp | 128 | train | jax | float32 | 4,000 (4,000-4,000) | 1.0 | 256 | 20.0 |" in variants
    assert "| mlp | 64 (of 128) | train | torch | float32 |" in variants
    assert (tmp_path / "results" / "throughput_box.png").exists()
    assert "variants.md" in capsys.readouterr().out


def test_rows_that_were_not_timed_in_turn_are_marked(tmp_path):
    report.main(write(tmp_path, [row("jax", [4.0] * 5), row("torch", [2.0] * 5, began="later")]))
    assert "| 2.00* (2.00-2.00) |" in (tmp_path / "README.md").read_text()


def test_rows_without_a_count_of_operations_have_no_limit(tmp_path):
    rows = [limit(1e12), row("jax", [4.0] * 5), row("torch", [2.0] * 5)]
    for found in rows[1:]:
        del found["flop_per_event"]
    report.main(write(tmp_path, rows))
    assert "| 2.00 (2.00-2.00) | - | - / - | 256 / 256 |" in (tmp_path / "README.md").read_text()


def test_missing_markers_and_files_are_errors(tmp_path):
    given = write(tmp_path, [row("jax", [4.0] * 5)])
    (tmp_path / "README.md").write_text("nothing")
    with pytest.raises(ValueError, match="lacks the markers"):
        report.main(given)
    (tmp_path / "results" / "throughput_box.jsonl").unlink()
    with pytest.raises(ValueError, match="no throughput_"):
        report.main(given)


@pytest.mark.draws
def test_the_plot_has_a_panel_for_each_network(tmp_path, monkeypatch):
    from matplotlib import pyplot

    figures = []
    monkeypatch.setattr(pyplot, "close", figures.append)
    rows = [limit(1e12), row("jax", [4.0, 5.0, 9.0]), row("torch", [2.0, 3.0, 3.0], mode="infer")]
    rows += [row("jax", [40.0] * 3, batch=1024), row("jax", [4.0] * 3, model="cvt")]
    report.main(write(tmp_path, rows))
    (figure,) = figures
    first, second = figure.axes
    assert (first.get_title(), second.get_title()) == ("mlp", "cvt")
    curves = [line for container in first.containers for line in [container.lines[0]]]
    assert [list(line.get_xdata()) for line in curves] == [[128, 1024], [128]]
    assert list(curves[0].get_ydata()) == [5.0, 40.0]
    limits = [line for line in first.lines if len(set(line.get_ydata())) == 1 and line.get_color() == "0.45"]
    assert [line.get_ydata()[0] for line in limits] == [1e6, 1e6]
    assert (tmp_path / "results" / "throughput_box.png").stat().st_size > 10_000
    monkeypatch.undo()
    pyplot.close(figure)


def test_the_readme_has_the_tables_of_the_committed_rows(tmp_path, capsys):
    text = (ROOT / "benchmarks/README.md").read_text()
    (tmp_path / "results").mkdir()
    for path in (ROOT / "benchmarks/results").glob("throughput_*.jsonl"):
        shutil.copy(path, tmp_path / "results")
    (tmp_path / "README.md").write_text(text)
    report.main(["--results", str(tmp_path / "results"), "--readme", str(tmp_path / "README.md")])
    assert (tmp_path / "README.md").read_text() == text
    capsys.readouterr()
    report.main([str(ROOT / "benchmarks/results/throughput_cpu_2core.jsonl")])
    assert capsys.readouterr().out in (tmp_path / "results" / "variants.md").read_text()


def test_the_best_row_is_of_those_that_may_be_and_never_of_an_ensemble():
    plain, flat = row("jax", [4.0], group="base", members=1), row("jax", [5.0], group="optimiser", members=1)
    many, theirs = row("jax", [9.0], group="ensemble", members=4), row("torch", [3.0])
    assert best_rows([flat, many, plain, theirs]) == {"jax": plain, "torch": theirs}
    assert best_rows([flat, many]) == {"jax": flat}
    assert best_rows([many]) == {}


@pytest.mark.parametrize("model", operations.MODELS)
def test_forward_operations_are_those_of_the_published_layouts(model):
    assert operations.by_hand(model) / 1e6 == pytest.approx(KNOWN_MFLOP[model], rel=2e-3)


@pytest.mark.parametrize("model", operations.MODELS)
def test_xla_counts_the_same_without_the_zeros_of_paddings(model):
    # XLA adds activations, norms and softmax: most in the CvT, whose scores alone are 756 x 756.
    hand, xla = operations.by_hand(model, padded=False), operations.by_xla(model)
    assert 1.0 < xla / hand < {"cvt": 1.035, "pointnet": 1.05}.get(model, 1.02)


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
    assert operations.by_xla("pointnet", 100) == pytest.approx(one, rel=0.05)


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

    def product(dtype, side):
        def once():
            clock["now"] += 2 * side**3 / 2e12

        return once

    made_up = limits.Framework({}, product, product, lambda out: None)
    assert limits.grown(made_up, "float32", 0.2) == 5632  # (0.2 * 10^12)^(1/3), down to a multiple of 256
    count, timings = limits.repeated(product("float32", 1000), made_up.finish, 0.2)
    assert count == 200
    assert timings == pytest.approx([0.2] * 5)
