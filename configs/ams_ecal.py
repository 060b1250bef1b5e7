"""Every field of an AMS ECAL configuration, with its unit or reason; each experiment's file sets what differs."""

from ml_collections import ConfigDict

VARIANTS = ("", "smoke", "paper")


def base(variant: str = "") -> ConfigDict:
    """Return the configuration that all calorimeter networks start from, at the size of the variant."""
    if variant not in VARIANTS:
        raise ValueError(f"no variant {variant!r}, wanted smoke, paper or none")
    config = ConfigDict()
    config.experiment = "ams_ecal"
    config.seed = 0  # initial parameters, order of the data, dropout

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

    config.model = model = ConfigDict()
    model.name = "cvt"  # mlp, cnn, resnet10, resnet18, cvt
    model.dtype = "float32"  # of the computation: float32 or bfloat16; parameters are float32
    model.settings = ConfigDict()  # arguments of the network

    config.train = train = ConfigDict()
    train.batch_size = 128
    train.epochs = 20  # at most
    train.max_steps = 0  # at most; 0: epochs decide
    train.learning_rate = 1e-4
    train.schedule = "constant"  # "constant", "cosine" to zero over all epochs, or "plateau"
    train.warmup_steps = 0  # linear rise at the start
    train.plateau_patience = 5  # epochs without improvement before the plateau schedule acts
    train.plateau_factor = 0.5  # what it multiplies the learning rate with
    train.clip_norm = 0.0  # largest global gradient norm; 0: no clipping
    train.weight_decay = 0.0  # decoupled (AdamW)
    train.average_decay = 0.0  # of the exponential moving average of the parameters that is scored; 0: none
    train.patience = 20  # epochs without improvement before training stops
    train.tolerance = 1e-5  # smallest fall of the validation loss that counts as improvement
    train.electron_weight = 0.0  # of an electron in the loss; 0: protons / electrons of the training split
    train.order = "random"  # "random" over the split, or "block": 256 events at a time, for cold or remote disks
    train.steps_per_dispatch = 1  # steps compiled into one call: launches cost less for small networks
    train.checkpoint_seconds = 600.0  # between checkpoints inside an epoch

    config.parallel = parallel = ConfigDict()
    parallel.kind = "jit"  # "jit" over a device mesh, or "pmap"
    parallel.devices = 0  # local devices to use; 0: all

    config.evaluate = evaluate = ConfigDict()
    evaluate.batch_size = 256
    evaluate.efficiency = 0.9  # electron efficiency at which rejection is quoted
    evaluate.confidence = 0.95  # of intervals and limits
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
