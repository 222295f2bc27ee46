"""The `srfgan` command line and everything that runs: config, data, training, evaluation, export."""

from srfgan import __version__

__all__ = ["__version__"]
