"""Runs that must not be mixed up or cannot be made are refused in one line, before anything is touched."""

from conftest import made_up_events, run, write_events

from jaxhep.errors import one_line


def test_a_workdir_of_another_config_is_refused(tmp_path, simulated, capsys):
    assert run("mlp", tmp_path, simulated, "train.epochs=1") == 0
    before = (tmp_path / "config.json").read_text()
    status = one_line(run, "mlp", tmp_path, simulated, "train.learning_rate=0.5")
    assert status == 2
    assert "train.learning_rate is 0.0001 there and 0.5 here" in capsys.readouterr().err
    assert (tmp_path / "config.json").read_text() == before
    assert run("mlp", tmp_path, simulated, "train.epochs=2") == 0  # longer is no other run


def test_checkpoints_of_an_unknown_run_are_refused(tmp_path, simulated, capsys):
    (tmp_path / "checkpoints" / "step_8").mkdir(parents=True)
    assert one_line(run, "mlp", tmp_path, simulated) == 2
    assert "holds checkpoints but no config.json" in capsys.readouterr().err


def test_other_data_in_the_same_files_are_refused(tmp_path, simulated, capsys):
    write_events(tmp_path / "pr.root", made_up_events(300, 8, "proton"))
    write_events(tmp_path / "el.root", made_up_events(300, 1))
    files = (f"data.electrons={tmp_path}/el.root", f"data.protons={tmp_path}/pr.root", "train.epochs=1")
    assert run("mlp", tmp_path / "run", simulated, *files) == 0
    write_events(tmp_path / "el.root", made_up_events(300, 2))
    assert one_line(run, "mlp", tmp_path / "run", simulated, *files) == 2
    assert "trained on other data" in capsys.readouterr().err


def test_an_unwritable_workdir_is_one_line(tmp_path, simulated, capsys):
    (tmp_path / "file").write_text("")
    status = one_line(run, "mlp", tmp_path / "file" / "run", simulated)
    assert status == 2
    assert "file/run" in capsys.readouterr().err


def test_window_without_track_is_refused(tmp_path, simulated, capsys):
    assert one_line(run, "mlp", tmp_path / "run", simulated, "inputs.window=9", "data.recipe=mc_200_2000") == 2
    assert "use mc_200_2000_track" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_batch_norm_of_each_device_wants_pmap(tmp_path, simulated, capsys):
    assert one_line(run, "mlp", tmp_path, simulated, "parallel.batch_norm=device") == 2
    assert "config.parallel.batch_norm is 'device', which wants config.parallel.kind=pmap" in capsys.readouterr().err
    assert one_line(run, "mlp", tmp_path, simulated, "parallel.batch_norm=devices") == 2
    assert "device" in capsys.readouterr().err
    assert not (tmp_path / "config.json").exists()


def test_an_unknown_recomputation_is_refused(tmp_path, simulated, capsys):
    assert one_line(run, "mlp", tmp_path, simulated, "train.recompute=elementwis") == 2
    assert "elementwise" in capsys.readouterr().err
