"""Preparing goes on where it was killed, and two processes do it once."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from jaxhep import columns, prepare
from jaxhep.ams_ecal import features
from jaxhep.ams_ecal.detector import AMS_ECAL
from jaxhep.detectors import DETECTORS
from jaxhep.manifest import read_manifest


def read_with(monkeypatch, read_records):
    """Let the calorimeter's records be read by another function."""
    reader = AMS_ECAL.reader._replace(read_records=read_records)
    monkeypatch.setitem(DETECTORS, "ams_ecal", AMS_ECAL._replace(reader=reader))


def test_a_killed_run_continues_to_the_same_columns(config, monkeypatch, tmp_path):
    wanted = read_manifest(prepare.prepare(config, quiet=True))
    config.data.folder = str(tmp_path / "killed")
    read = features.read_records
    calls = []

    def stopped(tree, label, selection, start=0):
        calls.append((tree.path.name, start))
        for number, chunk in enumerate(read(tree, label, selection, start)):
            if label == 0 and number == 0 and len(calls) == 2:
                raise KeyboardInterrupt
            yield chunk

    read_with(monkeypatch, stopped)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(config, quiet=True)
    assert [path.suffix for path in (tmp_path / "killed").iterdir() if path.is_dir()] == [".partial"]
    found = read_manifest(prepare.prepare(config, quiet=True))
    assert calls[2:] == [("pr.root", 0)]  # the electrons were not read again
    assert found["splits"] == wanted["splits"]
    assert found["dropped"] == wanted["dropped"]


def test_a_killed_run_continues_inside_a_file(config, monkeypatch, tmp_path):
    monkeypatch.setattr("jaxhep.root.SUPERCHUNK", 512)
    wanted = read_manifest(prepare.prepare(config, quiet=True))
    config.data.folder = str(tmp_path / "killed")
    read, starts = features.read_records, []

    def stopped(tree, label, selection, start=0):
        starts.append(start)
        for number, chunk in enumerate(read(tree, label, selection, start)):
            if number == 2 and len(starts) == 1:
                raise KeyboardInterrupt
            yield chunk

    read_with(monkeypatch, stopped)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(config, quiet=True)
    found = read_manifest(prepare.prepare(config, quiet=True))
    assert starts[1] == 1024
    assert (found["splits"], found["dropped"]) == (wanted["splits"], wanted["dropped"])


def test_a_run_killed_while_writing_columns_continues(config, monkeypatch, tmp_path):
    wanted = read_manifest(prepare.prepare(config, quiet=True))
    config.data.folder = str(tmp_path / "killed")
    write = columns.write_columns

    def stopped(buckets, folder, split, sample):
        if split == "test":
            raise KeyboardInterrupt
        return write(buckets, folder, split, sample)

    with monkeypatch.context() as patch:
        patch.setattr(columns, "write_columns", stopped)
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare(config, quiet=True)
    monkeypatch.setattr(features, "read_records", None)  # nothing is read again
    found = read_manifest(prepare.prepare(config, quiet=True))
    assert {**found, "files": 0} == {**wanted, "files": 0}


def test_two_processes_prepare_one_data_set(config, samples, tmp_path):
    command = [
        sys.executable,
        "-m",
        "jaxhep.prepare",
        "--config",
        "configs/mlp.py:smoke",
        "--folder",
        str(tmp_path / "p"),
    ]
    command += ["--electrons", str(samples / "el.root"), "--protons", str(samples / "pr.root")]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = {process.communicate()[0].split()[-1] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert [path.name for path in (tmp_path / "p").iterdir() if path.is_dir()] == [os.path.basename(folders.pop())]
    assert not folders
