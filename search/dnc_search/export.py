"""A found network to take away: configuration, weights, and a script that needs no search."""

from __future__ import annotations

import inspect
import json
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
from torch import Tensor, nn

from dnc_search.findings import Findings, Winner
from dnc_search.plain import plain_network
from dnc_search.templating import template
from dnc_sparse import checkpoint, schedules
from dnc_sparse.checkpoint import write_atomic

Form = Literal["json", "yaml"]
SCRIPT, START, WEIGHTS = "train.py", "initial.safetensors", "weights.safetensors"


def export(
    findings: Findings,
    winner: Winner,
    folder: Path,
    seed: int,
    weights: Path | None = None,
    form: Form = "json",
) -> list[Path]:
    """Write the winner's files into the folder and return them.

    They are `config.json` (or `.yaml`), `train.py` with the weights it starts from, drawn by
    `seed`, and the trained ones of `weights`, the file of a final run of that seed, where given.

    Raises ValueError for a network that cannot be written as plain PyTorch and weights of another
    network, RuntimeError when a file cannot be written.
    """
    config = winner.record.config
    model = findings.space.build(config, findings.shape, seed)
    states = {START: _plain_state(model, findings)}
    if weights is not None:
        _load(model, weights)
        states[WEIGHTS] = _plain_state(model, findings)
    plain = plain_network(model, findings.shape.n_features)
    texts = {
        f"config.{form}": _configuration(findings, winner, form),
        SCRIPT: _script(findings, winner, plain.source, sparse=plain.sparse),
    }
    checkpoint.make_folder(folder)
    for name, state in states.items():
        write_atomic(folder / name, safetensors.torch.save(state))
    for name, text in texts.items():
        write_atomic(folder / name, text.encode())
    return [folder / name for name in (*texts, *states)]


def _plain_state(model: nn.Module, findings: Findings) -> dict[str, Tensor]:
    state = plain_network(model, findings.shape.n_features).state
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}


def _load(model: nn.Module, weights: Path) -> None:
    try:
        model.load_state_dict(safetensors.torch.load_file(weights))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise ValueError(
            f"{weights} does not hold the weights of this network: {error}; "
            f"give those that the final stage wrote for it"
        ) from error


def _configuration(findings: Findings, winner: Winner, form: Form) -> str:
    search, record = findings.search, winner.record
    content: dict[str, Any] = {
        "network": findings.network(record),
        "config": dict(record.config),
        "space": dict(search.space),
        "data": search.data,
        "settings": dict(search.settings),
        "w_c": winner.w_c,
        "penalty": dict(search.penalty),
        "score": winner.score,
        "validation": dict(record.measures),
        "baseline": dict(findings.baseline),
        "test_errors": winner.test_errors,
        "search": search.name,
    }
    # YAML has no tuples
    content = json.loads(json.dumps(content))
    if form == "yaml":
        text: str = import_module("yaml").safe_dump(content, sort_keys=False)
        return text
    return json.dumps(content, indent=2) + "\n"


def _script(findings: Findings, winner: Winner, source: str, *, sparse: bool) -> str:
    search, config = findings.search, winner.record.config
    schedule = search.settings["schedule"]
    epochs = search.epochs_of_finals
    options = "".join(f", {name}={value!r}" for name, value in search.data_options.items())
    text: str = template("train.py.j2", html=False).render(
        summary=findings.network(winner.record),
        name=search.name,
        w_c=f"{winner.w_c:g}",
        sparse=sparse,
        source=source,
        data=search.data,
        data_options=options,
        regression=findings.shape.regression,
        schedule=_schedule(schedule),
        schedule_name=schedules.SCHEDULES[schedule].__name__,
        epochs=epochs,
        **{name: config[name] for name in ("learning_rate", "weight_decay", "batch_size")},
    )
    return text


def _schedule(name: schedules.ScheduleName) -> str:
    """Return the source of a schedule, with the constants that it names."""
    source = inspect.getsource(schedules.SCHEDULES[name])
    constants = [
        f"{constant} = {getattr(schedules, constant)!r}"
        for constant in ("DROP", "DROPS_AT", "WARM_UP")
        if constant in schedules.SCHEDULES[name].__code__.co_names
    ]
    return "\n".join([*constants, "", "", source] if constants else [source])
