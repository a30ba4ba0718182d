"""Pre-defined sparse layers for PyTorch: fix the pattern before training, store nothing else."""

from importlib.metadata import version

__version__ = version("dnc-sparse")
