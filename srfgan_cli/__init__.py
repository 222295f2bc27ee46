"""The `srfgan` command line and everything that runs: config, data, training, evaluation, export."""

__version__ = "0.1.0"
