"""Command lines: what is wrong is one line and leaves nothing, help is quick."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from jaxhep import evaluate, train
from jaxhep.errors import BadInput, one_line


def refused(capsys, arguments, *parts):
    status = one_line(train.main, arguments)
    error = capsys.readouterr().err
    assert status == 2
    assert error.count("\n") == 1, error
    for part in parts:
        assert part in error


SMOKE = f"--config={ROOT}/configs/mlp.py:smoke"
CVT = f"--config={ROOT}/configs/cvt.py:smoke"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--config=configs/none.py"], ["configs/none.py"]),
        ([f"--config={ROOT}/configs/mlp.py:smok"], ["no variant 'smok'"]),
        ([SMOKE, "--config.train.batchsize=3"], ["no config field 'train.batchsize' (nearest: 'batch_size')"]),
        ([SMOKE, "--config.trian.epochs=3"], ["no config field 'trian.epochs' (nearest: 'train')"]),
        ([SMOKE, "--config.train.epochs.last=3"], ["no config field 'train.epochs.last'"]),
        ([SMOKE, "--config.model.settings.hiden=[8,8]"], ["config.model.settings.hiden: no such argument of mlp"]),
        ([CVT, "--config.model.settings.heads=[1,1,3]"], ["config.model.settings of cvt: a width of 8", "by 3 heads"]),
        ([SMOKE, "--config.model.settings.dropout"], ["'model.settings.dropout': wanted NAME=VALUE"]),
        ([SMOKE, "--config.train.batch_size=many"], ["batch_size"]),
        ([SMOKE, "--wrokdir=x"], ["wrokdir"]),
        ([SMOKE, "stray"], ["unknown argument 'stray'"]),
        ([SMOKE, "--config.model.name=mpl"], ["config.model.name is 'mpl'", "nearest: 'mlp'"]),
        ([SMOKE, "--config.model.dtype=float23"], ["nearest: 'float32'"]),
        ([SMOKE, "--config.parallel.kind=gmap"], ["nearest: 'pmap'"]),
        ([SMOKE, "--config.parallel.devices=99"], ["config.parallel.devices is 99, this host has"]),
        ([SMOKE, "--config.train.schedule=cosin"], ["'cosin'"]),
        (
            [SMOKE, "--config.inputs.window=4"],
            ["config.inputs.window is 4, wanted 0 (all cells) or an odd number"],
        ),
        ([SMOKE, "--config.train.epochs=0"], ["config.train.epochs is 0, wanted at least 1"]),
        (
            [SMOKE, "--config.data.electrons=gone/*.root", "--config.data.protons=gone/*.root"],
            ["gone/*.root: no such file, wanted electron files"],
        ),
    ],
)
def test_wrong_commands_are_one_line_and_leave_nothing(tmp_path, capsys, monkeypatch, arguments, parts):
    monkeypatch.chdir(tmp_path)
    refused(capsys, arguments, *parts)
    assert not [path for path in Path(tmp_path).rglob("*") if path.is_file()]


def test_evaluate_wants_a_run(tmp_path):
    with pytest.raises(BadInput, match="not a run folder"):
        evaluate.evaluate(tmp_path)
    with pytest.raises(BadInput, match=r"no readable metrics.json"):
        evaluate.compare([tmp_path], tmp_path / "out")


def test_help_summary_and_printed_config(capsys):
    assert train.main(["--help"]) == 0
    assert "--workdir" in capsys.readouterr().out
    assert train.main([f"--config={ROOT}/configs/cvt.py", "--summary"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "trainable parameters: 4895873"
    assert train.main([SMOKE, "--config.train.batch_size=5", "--print_config"]) == 0
    assert json.loads(capsys.readouterr().out)["train"]["batch_size"] == 5
    assert train.main([SMOKE, "--config.model.settings.hidden=(8,4)", "--summary"]) == 0
    assert "1296x8" in capsys.readouterr().out


def test_help_is_quick():
    code = "import sys; from jaxhep import train; train.main(['--help']); print([m for m in ('jax', 'matplotlib', 'orbax') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "[]", result.stderr
