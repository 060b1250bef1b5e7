"""Every field of an AMS ECAL configuration, with its unit or reason; each experiment's file sets what differs."""

from ml_collections import ConfigDict

from configs.common import start


def base(variant: str = "") -> ConfigDict:
    """Return the configuration that all calorimeter networks start from, at the size of the variant."""
    config = start("ams_ecal", variant)

    config.data = data = ConfigDict()
    data.recipe = "mc_200_2000"  # data set: mc_200_600, mc_200_2000, mc_200_2000_track, flight_50_70
    data.electrons = ""  # ROOT files: paths, globs or folders separated by commas; none: simulation
    data.protons = ""
    data.files = ""  # flight data, for the recipe whose labels come from the TRD
    data.prepared = ""  # a folder that prepare made, used as it is: the ROOT files need not be there
    data.tree = "t1"
    data.cell_unit = "MeV"  # of edep_cell: keV, MeV or GeV; checked against en3d
    data.label_branch = "trd_lik"  # flight data: electrons lie below electron_below, protons above proton_above,
    data.electron_below = 0.6  # and what lies between is left out and counted
    data.proton_above = 0.8
    data.skip_bad = False  # leave out files that cannot be read (named in the manifest) instead of stopping
    data.folder = "runs/prepared"  # prepared data sets are kept and found again here
    data.limit = ConfigDict({"train": 0, "validation": 0, "test": 0})  # most events per class; 0: all

    config.simulation = simulation = ConfigDict()
    simulation.electrons = 20_000  # events generated, of which the recipe's cuts keep a part
    simulation.protons = 40_000
    simulation.seed = 1
    simulation.folder = "runs/simulation"  # ROOT files are kept and found again here
    simulation.variant = ""  # "flight_like": another detector, for studies of domain shift
    simulation.spectrum = "log_flat"  # or "power_law" with spectral_index
    simulation.spectral_index = 2.7
    simulation.electron_energy_gev = (0.0, 0.0)  # (0, 0): what the recipe needs to fill its ranges
    simulation.proton_energy_gev = (0.0, 0.0)
    simulation.radiation_lengths = 17.0  # depth: 17 contains 82 % of an electron at 1 TeV; AMS quotes 75 %
    simulation.charge_exchange = 0.03  # leading charge exchange: sets the ceiling of every rejection curve

    config.inputs = inputs = ConfigDict()
    inputs.channels = 1  # 2: y-measuring layers in channel 0, x-measuring in channel 1
    inputs.window = 0  # cells kept in each layer around the track (odd); 0: all 72
    inputs.window_mode = "crop"  # "crop" to the window, or "mask" the cells outside it

    config.model.name = "cvt"  # mlp, cnn, resnet10, resnet18, cvt

    config.train.electron_weight = 0.0  # of an electron in the loss; 0: protons / electrons of the training split

    train, evaluate = config.train, config.evaluate
    evaluate.efficiency = 0.9  # electron efficiency at which rejection is quoted
    evaluate.energy_edges = (200.0, 300.0, 450.0, 700.0, 1000.0, 1400.0, 2000.0)  # GeV
    evaluate.weighted = False  # count events by their simulation weight

    if variant == "smoke":
        simulation.electrons, simulation.protons = 1_024, 4_096
        data.limit.update({"train": 32, "validation": 16, "test": 32})
        train.update({"batch_size": 8, "epochs": 2})
        evaluate.batch_size = 32
    if variant == "paper":
        # The published recipe; name the collaboration's files with --config.data.electrons and .protons, or let
        # the simulation make this many (about 20 GB of ROOT files).
        simulation.electrons, simulation.protons = 2_000_000, 8_000_000
        train.update({"batch_size": 128, "epochs": 1000, "learning_rate": 1e-4})
        evaluate.batch_size = 1024
    return config
