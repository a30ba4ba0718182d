"""Libraries that not everybody has: whether one is there, and the line that installs it."""

from __future__ import annotations

from importlib.util import find_spec

# which extra of this distribution brings a library; any other is a dependency
EXTRAS = {
    "jinja2": "search",
    "joblib": "hw",
    "matplotlib": "plot",
    "onnxscript": "onnx",
    "optuna": "search",
    "peft": "peft",
    "psycopg": "postgres",
    "triton": "gpu",
}


def is_installed(library: str) -> bool:
    """Whether a library can be found; it is not imported."""
    try:
        return find_spec(library) is not None
    except ImportError:
        # an import hook that refuses it
        return False


def install_line(library: str) -> str:
    """Return the command that installs a library, by our extra where one brings it."""
    extra = EXTRAS.get(library)
    return f"pip install {library}" if extra is None else f"pip install 'dnc-sparse[{extra}]'"


def check_matplotlib() -> None:
    """Raise ImportError, with the way out, where matplotlib is missing."""
    if not is_installed("matplotlib"):
        raise ImportError(f"drawing needs matplotlib: {install_line('matplotlib')}")
