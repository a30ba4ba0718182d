"""Python files of the user's own, run as modules: models for `advise`, spaces for searches."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType


def load_file(path: Path, prefix: str) -> ModuleType:
    """Run a file and return it as a module, whose name is `prefix` and digits of the path.

    What the file raises goes through; see `running`.
    """
    name = f"{prefix}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up while they are made
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def running(title: str) -> Iterator[None]:
    """Turn whatever the user's code raises within into a ValueError that names it."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{title} does not run: {type(error).__name__}: {error}; mend it first"
        ) from error
