"""Tables and plots of measured throughput: what is read, compared and written."""

import json

import pytest
from conftest import ROOT

from benchmarks import report
from benchmarks.throughput_expect import best_rows
from benchmarks.throughput_table import newest, ratio_of

MARKED = "before\n<!-- throughput:begin -->\nold\n<!-- throughput:end -->\nafter\n"


def row(framework, rates, batch=128, mode="train", began="one", **more):
    middle = sorted(rates)[len(rates) // 2]
    known = {"kind": "row", "model": "mlp", "batch": batch, "asked_batch": batch, "mode": mode, "points": 0}
    known |= {"framework": framework, "variant": "float32", "dtype": "float32", "device": "gpu H200", "devices": 1}
    known |= {"load": 1.0, "date": "2026-11-22T10:00:00+00:00", "commit": "abc", "cores": 2, "cell_began": began}
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
    skipped = {
        **{name: first[name] for name in ("kind", "model", "batch", "mode", "framework", "variant")},
        "skipped": "x",
    }
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


def test_files_of_the_former_format_are_read(tmp_path):
    old = [
        json.loads(line) for line in (ROOT / "benchmarks/results/throughput_cpu_2core.jsonl").read_text().splitlines()
    ]
    for found in old:
        for name in ("asked_batch", "points", "cell_began", "alternated", "flop_per_event", "devices", "python"):
            found.pop(name, None)
    report.main(write(tmp_path, [found for found in old if found["kind"] in ("row", "ratio")], "old"))
    text = (tmp_path / "README.md").read_text()
    assert "### old" in text
    assert "| mlp | train | 128 |" in text
    assert "| 1.15 |" in text  # operations by hand


def test_rows_without_a_count_get_that_by_hand():
    old = {"kind": "row", "model": "pointnet", "mode": "train"}
    assert report.with_counts(old)["flop_per_event"] == pytest.approx(3 * 463.8e6, rel=1e-3)
    assert report.with_counts(old | {"mode": "infer", "points": 400})["flop_per_event"] < 240e6
    assert report.with_counts(old | {"flop_per_event": 7.0})["flop_per_event"] == 7.0


def test_missing_markers_and_files_are_errors(tmp_path):
    given = write(tmp_path, [row("jax", [4.0] * 5)])
    (tmp_path / "README.md").write_text("nothing")
    with pytest.raises(SystemExit, match="lacks the markers"):
        report.main(given)
    (tmp_path / "results" / "throughput_box.jsonl").unlink()
    with pytest.raises(SystemExit, match="no throughput_"):
        report.main(given)


@pytest.mark.draws
def test_the_plot_has_a_panel_for_each_network(tmp_path, monkeypatch):
    from matplotlib import pyplot

    figures = []
    monkeypatch.setattr("benchmarks.throughput_plot.pyplot.close", figures.append)
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


def test_the_readme_has_the_markers():
    text = (ROOT / "benchmarks/README.md").read_text()
    assert text.count(report.BEGIN) == text.count(report.END) == 1


def test_the_best_row_is_of_those_that_may_be_and_never_of_an_ensemble():
    plain, flat = row("jax", [4.0], group="base", members=1), row("jax", [5.0], group="optimiser", members=1)
    many, theirs = row("jax", [9.0], group="ensemble", members=4), row("torch", [3.0])
    assert best_rows([flat, many, plain, theirs]) == {"jax": plain, "torch": theirs}
    assert best_rows([flat, many]) == {"jax": flat}
    assert best_rows([many]) == {}
