"""Every field of a calorimeter configuration, and what its networks start from."""

from ml_collections import ConfigDict

from jaxhep.fields import Field, Fields, build, check_variant

FIELDS: Fields = {
    "data.recipe": Field("mc_200_2000", "data set: mc_200_600, mc_200_2000, mc_200_2000_track, flight_50_70"),
    "data.electrons": Field("", "ROOT files: paths, globs or folders separated by commas; none: simulation"),
    "data.protons": Field("", "likewise"),
    "data.files": Field("", "flight data, for the recipe whose labels come from the TRD"),
    "data.tree": Field("t1", "in ROOT files"),
    "data.cell_unit": Field("MeV", "of edep_cell: keV, MeV or GeV; checked against en3d"),
    "data.label_branch": Field("trd_lik", "branch that labels flight data"),
    "data.electron_below": Field(0.6, "its value below which an event is an electron"),
    "data.proton_above": Field(0.8, "its value above which one is a proton; between the two events are left out"),
    "simulation.electrons": Field(20_000, "events generated, of which the recipe's cuts keep a part"),
    "simulation.protons": Field(40_000, "likewise"),
    "simulation.seed": Field(1, "of the simulation"),
    "simulation.folder": Field("runs/simulation", "ROOT files are kept and found again here"),
    "simulation.variant": Field("", "flight_like: another detector, for studies of domain shift"),
    "simulation.spectrum": Field("log_flat", "or power_law with spectral_index"),
    "simulation.spectral_index": Field(2.7, "of the power law"),
    "simulation.electron_energy_gev": Field((0.0, 0.0), "(0, 0): what the recipe needs to fill its ranges"),
    "simulation.proton_energy_gev": Field((0.0, 0.0), "likewise"),
    "simulation.radiation_lengths": Field(17.0, "depth: 17 contains 82 % of an electron at 1 TeV; AMS quotes 75 %"),
    "simulation.charge_exchange": Field(0.03, "leading charge exchange: sets the ceiling of every rejection curve"),
    "inputs.channels": Field(1, "2: y-measuring layers in channel 0, x-measuring in channel 1"),
    "inputs.window": Field(0, "cells kept in each layer around the track (odd); 0: all 72"),
    "inputs.window_mode": Field("crop", "crop to the window, or mask the cells outside it"),
    "train.electron_weight": Field(0.0, "of an electron in the loss; 0: protons / electrons of the training split"),
    "evaluate.efficiency": Field(0.9, "electron efficiency at which rejection is quoted"),
    "evaluate.energy_edges": Field((200.0, 300.0, 450.0, 700.0, 1000.0, 1400.0, 2000.0), "of energy bins, GeV"),
    "evaluate.weighted": Field(False, "count events by their simulation weight"),
}


def base(variant: str = "") -> ConfigDict:
    """Return the configuration that all calorimeter networks start from, at the size of the variant.

    Raises ValueError for an unknown variant.
    """
    check_variant(variant)
    config = build("ams_ecal", FIELDS)
    config.model.name = "cvt"
    if variant == "smoke":
        config.simulation.update({"electrons": 1_024, "protons": 4_096})
        config.data.limit.update({"train": 32, "validation": 16, "test": 32})
        config.train.update({"batch_size": 8, "epochs": 2})
        config.evaluate.batch_size = 32
    if variant == "paper":
        # The published recipe; name the collaboration's files with --config.data.electrons and .protons, or let
        # the simulation make this many (about 20 GB of ROOT files).
        config.simulation.update({"electrons": 2_000_000, "protons": 8_000_000})
        config.train.update({"batch_size": 128, "epochs": 1000, "learning_rate": 1e-4})
        config.evaluate.batch_size = 1024
    return config


def cvt(variant: str = "") -> ConfigDict:
    """Return what all CvTs start from; at laptop size two cores train it in five minutes, at 8 events/s."""
    config = base(variant)
    if variant == "":
        config.data.limit.update({"train": 480, "validation": 30, "test": 125})  # per class
        config.train.update(
            {"batch_size": 16, "epochs": 2, "learning_rate": 3e-4, "schedule": "cosine", "warmup_steps": 10}
        )
        config.train.clip_norm = 1.0
        config.evaluate.batch_size = 50
    if variant == "smoke":  # compiles and trains in seconds, with every part of the full one
        config.model.settings.update({"widths": (4, 6, 8), "heads": (1, 1, 2), "blocks": (1, 1, 1)})
    return config


def resnet(name: str, variant: str = "") -> ConfigDict:
    """Return the configuration of resnet10 or resnet18."""
    config = base(variant)
    config.model.name = name
    if variant == "":
        config.data.limit.update({"train": 2500, "validation": 500, "test": 2000})
        config.train.update(
            {"batch_size": 64, "epochs": 6, "learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 50}
        )
    if variant == "smoke":
        config.model.settings.width = 4
    return config
