"""The data sets known by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

from dnc_sparse.data import files, images, texts
from dnc_sparse.data.dataset import DataSet
from dnc_sparse.data.files import DataFile
from dnc_sparse.data.glyph_images import glyphs
from dnc_sparse.data.morse_frames import SAMPLES_PER_CLASS, VARIANTS, morse
from dnc_sparse.data.npz import custom

# what an option of a type takes, numpy's integers among the whole numbers
KINDS: dict[type, tuple[type, str]] = {
    int: (Integral, "a whole number"),
    bool: (bool, "true or false"),
    str: (str, "text"),
}


@dataclass(frozen=True)
class Source:
    """How to build a data set and which files that takes (none: it is generated)."""

    description: str
    build: Callable[..., DataSet]
    files: tuple[DataFile, ...] = ()

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options that `load` passes on."""
        fixed = getattr(self.build, "keywords", {})
        return tuple(
            name
            for name, parameter in inspect.signature(self.build).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY and name not in fixed
        )

    def check_kind(self, name: str, value: Any) -> None:
        """Raise ValueError unless an option can take the value, such as a number or a text."""
        hint = get_type_hints(getattr(self.build, "func", self.build))[name]
        if value is None and type(None) in get_args(hint):
            return
        kinds = [kind for kind in KINDS if kind in (hint, *get_args(hint))]
        # True is an integer to Python, not to people
        if not any(
            isinstance(value, KINDS[kind][0]) and isinstance(value, bool) == (kind is bool)
            for kind in kinds
        ):
            raise ValueError(
                f"{name} must be {' or '.join(KINDS[kind][1] for kind in kinds)}, got {value!r}"
            )


class Row(NamedTuple):
    """One line of `available`: `ready` tells whether `load` needs no download; `where` says why."""

    name: str
    description: str
    ready: bool
    where: str


def _morse_sources() -> dict[str, Source]:
    shapes = {
        "1": "symbols at the left",
        "2": "symbols anywhere",
        "3": "symbols anywhere, dashes of 3-9",
        "4": "as series 3, four times as long",
    }
    sources = {"morse": Source("Morse symbols, the easiest variant 1.0", morse)}
    for variant in VARIANTS:
        series, sigma = variant.split(".")
        about = f"Morse symbols, {shapes[series]}, noise {sigma}"
        sources[f"morse-{variant}"] = Source(about, partial(morse, variant))
    for size in ("1/8", "1/4", "1/2", "1", "2", "4", "8"):
        samples = int(Fraction(size) * SAMPLES_PER_CLASS)
        sources[f"morse-size-{size}"] = Source(
            f"Morse 3.1 with {samples} samples per class",
            partial(morse, "3.1", samples_per_class=samples),
        )
    return sources


SOURCES: dict[str, Source] = {
    **_morse_sources(),
    "mnist": Source("handwritten digits, 28 x 28 grey", images.mnist, images.MNIST_FILES),
    "fashion-mnist": Source(
        "pictures of clothes, 28 x 28 grey", images.fashion_mnist, images.FASHION_FILES
    ),
    "reuters-r8": Source(
        "news articles as word counts, 8 topics", texts.reuters_r8, (texts.REUTERS_FILE,)
    ),
    "20-newsgroups": Source(
        "forum posts as word counts, 20 groups", texts.newsgroups, (texts.NEWSGROUPS_FILE,)
    ),
    "glyphs": Source("bent and noisy letters and digits, 28 x 28 grey", glyphs),
}


def load(name: str | Path, data_dir: Path | str | None = None, **options: Any) -> DataSet:
    """Return the data set of this name, or the user's own in an .npz file.

    `data_dir` is searched for the set's files first (`find_file`). Options: morse and glyphs take
    those of `morse` and `glyphs`; mnist and fashion-mnist take `mirror` and `download`; reuters-r8
    and 20-newsgroups take `features`. Raises ValueError for unknown names, options and damaged
    files, and FileNotFoundError for files that are nowhere.
    """
    if str(name).endswith(".npz"):
        _check_options(str(name), options, ())
        return custom(name)
    if name not in SOURCES:
        raise ValueError(
            f"unknown data set {str(name)!r}; known: {_known()}, or the path of an .npz file"
        )
    source = SOURCES[str(name)]
    _check_options(str(name), options, source.options)
    for option, value in options.items():
        source.check_kind(option, value)
    return source.build(data_dir, **options) if source.files else source.build(**options)


def available(data_dir: Path | str | None = None) -> list[Row]:
    """List the known data sets and where their files are, or why not; checksums are not looked at.

    A data folder that does not exist is such a reason; `load` raises it.
    """
    return [
        Row(name, source.description, *_state(source, data_dir)) for name, source in SOURCES.items()
    ]


def _state(source: Source, data_dir: Path | str | None) -> tuple[bool, str]:
    if not source.files:
        return True, "generated"
    try:
        paths = [files.local_path(file, data_dir) for file in source.files]
    except (FileNotFoundError, NotADirectoryError) as error:
        return False, str(error)
    if paths[0] is not None and None not in paths:
        return True, f"found in {paths[0].parent}"
    if all(
        path is not None or files.is_cached(file)
        for file, path in zip(source.files, paths, strict=True)
    ):
        return True, "downloaded before"
    if source.files[0].mirror is None:
        return False, "missing, no public download"
    return False, "to be downloaded"


def _check_options(name: str, options: dict[str, Any], known: tuple[str, ...]) -> None:
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(
            f"{name} takes no option {', '.join(unknown)}; its options: "
            f"{', '.join(known) or 'none'}"
        )


def _known() -> str:
    plain = [name for name in SOURCES if not name.startswith("morse-")]
    return f"{', '.join(plain)}, morse-1.0 to morse-4.4, morse-size-1/8 to morse-size-8"
