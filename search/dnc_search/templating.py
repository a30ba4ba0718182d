"""The templates of this package."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template


def template(name: str, *, html: bool) -> Template:
    """Return the named template; values are escaped where it makes `html`.

    Raises ImportError, with the way out, without jinja2.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise ImportError(
            "reports and exports need jinja2; pip install 'dnc-sparse[search]'"
        ) from error
    text = resources.files("dnc_search").joinpath("templates", name).read_text()
    environment = Environment(
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(text)
