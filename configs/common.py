"""Fields that every configuration has: how a network is trained, on what, and in how many copies."""

from ml_collections import ConfigDict

VARIANTS = ("", "smoke", "paper")


def start(experiment: str, variant: str) -> ConfigDict:
    """Return a configuration with the fields of every experiment. Raises ValueError for an unknown variant."""
    if variant not in VARIANTS:
        raise ValueError(f"no variant {variant!r}, wanted smoke, paper or none")
    config = ConfigDict()
    config.experiment = experiment
    config.seed = 0  # initial parameters, order of the data, dropout, augmentation

    config.model = model = ConfigDict()
    model.name = ""  # of the network
    model.dtype = "float32"  # of the computation: float32 or bfloat16; parameters are float32
    model.settings = ConfigDict()  # arguments of the network

    config.train = train = ConfigDict()
    train.batch_size = 128
    train.accumulate = 1  # parts of a batch computed one after the other, for less memory; BatchNorm sees each alone
    train.epochs = 20  # at most
    train.max_steps = 0  # at most; 0: epochs decide
    train.learning_rate = 1e-4
    train.schedule = "constant"  # "constant", "cosine" to zero over all epochs, or "plateau"
    train.warmup_steps = 0  # linear rise at the start
    train.plateau_patience = 5  # epochs without improvement before the plateau schedule acts
    train.plateau_factor = 0.5  # what it multiplies the learning rate with
    train.clip_norm = 0.0  # largest global gradient norm; 0: no clipping
    train.weight_decay = 0.0  # decoupled (AdamW)
    train.flat_optimiser = False  # Adam over all parameters as one vector: one kernel instead of one for each array
    train.average_decay = 0.0  # of the exponential moving average of the parameters that is scored; 0: none
    train.patience = 20  # epochs without improvement before training stops; 0: never
    train.tolerance = 1e-5  # smallest fall of the validation loss that counts as improvement
    train.order = "random"  # "random" over the split, or "block": 256 events at a time, for cold or remote disks
    train.steps_per_dispatch = 1  # steps compiled into one call: launches cost less for small networks
    train.checkpoint_seconds = 600.0  # between checkpoints inside an epoch

    config.ensemble = ConfigDict()
    config.ensemble.members = 1  # networks trained together as one stacked state, member m with seed + m
    config.ensemble.group = 0  # members computed at a time; 0: all, fewer take less memory

    config.parallel = parallel = ConfigDict()
    parallel.kind = "jit"  # "jit" over a device mesh, or "pmap"
    parallel.devices = 0  # local devices to use; 0: all
    parallel.data = "auto"  # where training columns are: "device", "host"; auto: on an accelerator that they fit
    parallel.data_gb = 40.0  # the most they may take there, all devices together

    config.evaluate = ConfigDict()
    config.evaluate.batch_size = 256
    config.evaluate.confidence = 0.95  # of intervals and limits
    return config
