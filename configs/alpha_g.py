"""Every field of an ALPHA-g configuration, with its unit or reason; each experiment's file sets what differs."""

from ml_collections import ConfigDict

from configs.common import start


def base(variant: str = "") -> ConfigDict:
    """Return the configuration that all vertex networks start from, at the size of the variant."""
    config = start("alpha_g", variant)
    config.target = "z"  # coordinates predicted: "z" or "xyz"

    config.data = data = ConfigDict()
    data.files = ""  # HDF5, Parquet or ROOT files: paths, globs or folders separated by commas; none: simulation
    data.prepared = ""  # a folder that prepare made, used as it is: the files need not be there
    data.tree = "spacepoints"  # in ROOT files
    data.unit = "mm"  # of the files: mm or m
    data.radius_mm = (109.0, 190.0)  # spacepoints kept: those in the gas
    data.stored_points = 800  # of an event at most
    data.order = "amplitude"  # which are stored: those of largest "amplitude", or of smallest "radius"
    data.z_range_mm = (-1152.0, 1152.0)  # true z of the events used
    data.flatten_z = False  # use as many events in each of 100 bins of true z
    data.split = (0.8, 0.1, 0.1)  # weights of training, validation and test
    data.skip_bad = False  # leave out files that cannot be read (named in the manifest) instead of stopping
    data.folder = "runs/prepared"  # prepared data sets are kept and found again here
    data.limit = ConfigDict({"train": 0, "validation": 0, "test": 0})  # most events; 0: all

    config.simulation = simulation = ConfigDict()
    simulation.annihilations = 20_000  # events generated
    simulation.cosmics = 0  # they have no vertex: a background for other uses
    simulation.seed = 1
    simulation.folder = "runs/simulation"  # files are kept and found again here
    simulation.format = "root"  # of the files: root, hdf5 or parquet
    simulation.annihilation_on = "hydrogen"  # the published fractions of charged pions, or those on the trap "wall"
    simulation.vertex = "disc"  # uniform within the trap's radius, or on its "wall"
    simulation.z_range_mm = (-1152.0, 1152.0)  # of the vertex, uniform; narrower: around the trap
    simulation.radiation_lengths = 0.36  # of the material before the gas, which scatters
    simulation.clusters_per_cm = 1.3  # of a fast pion; fitted to Geant4, real chambers give more
    simulation.electron_clusters_per_cm = 4.1
    simulation.diffusion_mm = 0.2  # per square root of a cm of drift
    simulation.z_resolution_mm = 1.0  # of a spacepoint
    simulation.merging_mm = 12.0  # hits of a wire and time bin that are nearer in z are one
    simulation.inefficiency = 0.0  # chance that a spacepoint is missed
    simulation.noise_points = 0.0  # mean of false spacepoints per event
    simulation.ghost_fraction = 0.0  # spacepoints of the wire of one hit and the pads of another
    simulation.most_points = 1_500  # of an event, the strongest; 0: all

    config.inputs = inputs = ConfigDict()
    inputs.points = 800  # that the network sees
    inputs.padding = "repeat"  # of shorter events: "repeat" real points, or "mask" what is missing
    inputs.centre = "mean"  # subtract the event's "mean" z, or "none" (for the network with a learned z shift)
    inputs.unit_mm = 1.0  # length that the network counts in; 1 is the published choice

    config.augment = augment = ConfigDict()  # of training events, truth with them
    augment.rotate = True  # about z
    augment.reflect = True  # x and z, each or not
    augment.shift_z_mm = 0.0  # largest shift along z; all points stay in the detector
    augment.choose = False  # a random choice of the stored points instead of the first; evenly spread ones in scoring

    config.model.name = "pointnet"

    config.loss = loss = ConfigDict()
    loss.kind = "huber"  # huber, l1, l2, mean_squared; with a predicted width: gaussian_nll, laplace_nll
    loss.delta_mm = 1.0  # where Huber's loss turns from quadratic to linear
    loss.width_mm = 50.0  # width that an untrained network predicts

    train, evaluate = config.train, config.evaluate
    # The published recipe, with the decay of the learning rate that its authors recommend.
    train.update({"batch_size": 512, "epochs": 500, "learning_rate": 1e-3, "schedule": "cosine", "patience": 0})

    evaluate.batch_size = 128
    evaluate.helix_fit = "fit"  # the standard method: "fit" the spacepoints, take the "file"'s columns, or "none"
    evaluate.vertex_csv = ""  # the collaboration's own vertices, by serial number: takes the Helix Fit's place

    if variant == "smoke":
        simulation.annihilations = 400
        data.update({"stored_points": 96, "split": (0.5, 0.2, 0.3)})
        data.limit.update({"train": 64, "validation": 16, "test": 32})
        inputs.points = 64
        config.model.settings.update(
            {"point_widths": (8, 12, 24), "head_widths": (12, 8), "transform_widths": (8, 12, 16)}
        )
        train.update({"batch_size": 8, "epochs": 2})
        evaluate.batch_size = 32
    if variant == "paper":
        # The published number of events; name the collaboration's files with --config.data.files, or let the
        # simulation make this many (about 18 GB of ROOT files).
        simulation.annihilations = 2_700_000
        data.flatten_z = True
        evaluate.batch_size = 512
    return config
