"""Every field of a TPC configuration, and what its networks start from."""

from ml_collections import ConfigDict

from jaxhep.fields import COMMON, Field, Fields, build, check_variant

TARGETS = {"z": (2,), "xyz": (0, 1, 2)}  # config.target -> coordinates of the vertex

FIELDS: Fields = {
    "target": Field("z", "coordinates predicted: z or xyz"),
    "data.files": Field(
        "", "HDF5, Parquet or ROOT files: paths, globs or folders separated by commas; none: simulation"
    ),
    "data.tree": Field("spacepoints", "in ROOT files"),
    "data.unit": Field("mm", "of the files: mm or m"),
    "data.radius_mm": Field((109.0, 190.0), "spacepoints kept: those in the gas"),
    "data.stored_points": Field(800, "of an event at most"),
    "data.order": Field("amplitude", "which are stored: those of largest amplitude, or of smallest radius"),
    "data.z_range_mm": Field((-1152.0, 1152.0), "true z of the events used"),
    "data.flatten_z": Field(False, "use as many events in each of 100 bins of true z"),
    "data.split": Field((0.8, 0.1, 0.1), "weights of training, validation and test"),
    "simulation.annihilations": Field(20_000, "events generated"),
    "simulation.cosmics": Field(0, "muons: they have no vertex, a background for other uses"),
    "simulation.seed": Field(1, "of the simulation"),
    "simulation.folder": Field("runs/simulation", "files are kept and found again here"),
    "simulation.format": Field("root", "of the files: root, hdf5 or parquet"),
    "simulation.annihilation_on": Field(
        "hydrogen", "the published fractions of charged pions, or those on the trap wall"
    ),
    "simulation.vertex": Field("disc", "uniform within the trap's radius, or on its wall"),
    "simulation.z_range_mm": Field((-1152.0, 1152.0), "of the vertex, uniform; narrower: around the trap"),
    "simulation.radiation_lengths": Field(0.36, "of the material before the gas, which scatters"),
    "simulation.clusters_per_cm": Field(1.3, "of a fast pion; fitted to Geant4, real chambers give more"),
    "simulation.electron_clusters_per_cm": Field(4.1, "of an electron, likewise"),
    "simulation.diffusion_mm": Field(0.2, "per square root of a cm of drift"),
    "simulation.z_resolution_mm": Field(1.0, "of a spacepoint"),
    "simulation.merging_mm": Field(12.0, "hits of a wire and time bin that are nearer in z are one"),
    "simulation.inefficiency": Field(0.0, "chance that a spacepoint is missed"),
    "simulation.noise_points": Field(0.0, "mean of false spacepoints per event"),
    "simulation.ghost_fraction": Field(0.0, "spacepoints of the wire of one hit and the pads of another"),
    "simulation.most_points": Field(1_500, "of an event, the strongest; 0: all"),
    "inputs.points": Field(800, "that the network sees"),
    "inputs.padding": Field("repeat", "of shorter events: repeat real points, or mask what is missing"),
    "inputs.centre": Field("mean", "subtract the event's mean z, or none (for the network with a learned z shift)"),
    "inputs.unit_mm": Field(1.0, "length that the network counts in; 1 is the published choice"),
    "augment.rotate": Field(True, "training events about z, truth with them"),
    "augment.reflect": Field(True, "x and z, each or not"),
    "augment.shift_z_mm": Field(0.0, "largest shift along z; all points stay in the detector"),
    "augment.choose": Field(
        False, "a random choice of the stored points instead of the first; evenly spread in scoring"
    ),
    "model.name": COMMON["model.name"]._replace(default="pointnet"),
    "loss.kind": Field("huber", "huber, l1, l2, mean_squared; with a predicted width: gaussian_nll, laplace_nll"),
    "loss.delta_mm": Field(1.0, "where Huber's loss turns from quadratic to linear"),
    "loss.width_mm": Field(50.0, "width that an untrained network predicts"),
    # The published recipe, with the decay of the learning rate that its authors recommend.
    "train.batch_size": COMMON["train.batch_size"]._replace(default=512),
    "train.epochs": COMMON["train.epochs"]._replace(default=500),
    "train.learning_rate": COMMON["train.learning_rate"]._replace(default=1e-3),
    "train.schedule": COMMON["train.schedule"]._replace(default="cosine"),
    "train.patience": COMMON["train.patience"]._replace(default=0),
    "evaluate.batch_size": COMMON["evaluate.batch_size"]._replace(default=128),
    "evaluate.helix_fit": Field("fit", "the standard method: fit the spacepoints, take the file's columns, or none"),
    "evaluate.vertex_csv": Field("", "the collaboration's own vertices, by serial number, in the Helix Fit's place"),
}


def base(variant: str = "") -> ConfigDict:
    """Return the configuration that all vertex networks start from, at the size of the variant.

    Raises ValueError for an unknown variant.
    """
    check_variant(variant)
    config = build("alpha_g", FIELDS)
    if variant == "smoke":
        config.simulation.annihilations = 400
        config.data.update({"stored_points": 96, "split": (0.5, 0.2, 0.3)})
        config.data.limit.update({"train": 64, "validation": 16, "test": 32})
        config.inputs.points = 64
        config.model.settings.update(
            {"point_widths": (8, 12, 24), "head_widths": (12, 8), "transform_widths": (8, 12, 16)}
        )
        config.train.update({"batch_size": 8, "epochs": 2})
        config.evaluate.batch_size = 32
    if variant == "paper":
        # The published number of events; name the collaboration's files with --config.data.files, or let the
        # simulation make this many (about 18 GB of ROOT files).
        config.simulation.annihilations = 2_700_000
        config.data.flatten_z = True
        config.evaluate.batch_size = 512
    return config


def pointnet(variant: str = "", epochs: int = 8) -> ConfigDict:
    """Return what all PointNets start from; at laptop size two cores train 350 to 490 events/s for so many epochs."""
    config = base(variant)
    if variant == "":
        config.simulation.annihilations = 25_000
        # In units of 100 mm numbers are of order one, so that few steps get somewhere.
        config.inputs.update({"points": 128, "unit_mm": 100.0})
        config.augment.choose = True
        config.train.update({"batch_size": 64, "epochs": epochs, "learning_rate": 2e-3, "warmup_steps": 50})
        config.train.steps_per_dispatch = 4
    return config
