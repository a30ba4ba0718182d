"""Fronts: which networks there are, which are on a front, and who is ahead at equal cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from dnc_sparse.bench.dense import onednn_unavailable
from dnc_sparse.front import costs, report, runs
from dnc_sparse.front.networks import Network, dense_networks, sparse_networks
from dnc_sparse.front.report import Point
from dnc_sparse.front.runs import FrontTask, Job, Run
from dnc_sparse.ledger import Ledger, key_of
from dnc_sparse.nn import SparseLinear

TASK = FrontTask("any", epochs=2, rates=(0.001, 0.01), seeds=2)


def point(
    width: int,
    density: float | None,
    seconds: float,
    validation: float,
    tests: tuple[float, ...],
    kernels: costs.Kernels | None = None,
) -> Point:
    network = Network(width, 2, density, 1 if density is None else 8)
    return Point(
        network=network,
        kernels=kernels or ("torch" if density is None else "dnc_sparse"),
        rate=0.01,
        rate_at_edge=True,
        parameters=round(1000 * seconds),
        validation=validation,
        tests=tests,
        test_accuracy=sum(tests) / len(tests),
        half_width=None,
        seconds_per_epoch=seconds / TASK.epochs,
        seconds=seconds,
        peak_mib=10 * seconds,
    )


DENSE = [
    point(16, None, 1, 0.80, (0.79, 0.81)),
    point(32, None, 2, 0.84, (0.83, 0.85)),
    # costs more and is worse
    point(48, None, 3, 0.83, (0.90, 0.90)),
    point(64, None, 4, 0.86, (0.86, 0.86)),
]
SPARSE = [
    point(64, 1 / 8, 1.5, 0.85, (0.84, 0.86)),
    point(128, 1 / 8, 2.5, 0.88, (0.87, 0.89)),
    point(256, 1 / 8, 5, 0.90, (0.90, 0.90)),
]


def lowered(row: Point, by: float) -> Point:
    tests = tuple(accuracy - by for accuracy in row.tests)
    return replace(row, tests=tests, test_accuracy=row.test_accuracy - by)


@pytest.mark.parametrize(("density", "block"), [(None, 1), (1 / 4, 8), (1 / 8, 4), (1 / 2, 1)])
def test_networks_have_the_weights_that_they_say(density: float | None, block: int) -> None:
    network = Network(64, 2, density, block)
    model = network.build(32, 10, 3)
    assert model.n_edges == network.edges(32, 10)
    assert isinstance(model.junctions[-1], nn.Linear)
    assert isinstance(model.junctions[0], SparseLinear) == (density is not None)
    again, other = network.build(32, 10, 3), network.build(32, 10, 4)
    states = [one.state_dict()["junctions.0.weight"] for one in (model, again, other)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_networks_leave_the_global_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    Network(16, 1).build(8, 4, 0)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_sparse_networks_are_those_that_exist() -> None:
    networks = sparse_networks([64, 60, 64], [1 / 4, 1 / 16, 1], [8, 4], 2, 64)
    # 60 is no multiple of 8; 64 has 8 blocks of 8 a row, of which 1/16 would be half a block
    assert [n.name for n in networks] == [
        "1/4, 4x4, h = 60",
        "1/4, 4x4, h = 64",
        "1/16, 4x4, h = 60",
        "1/16, 4x4, h = 64",
        "1/4, 8x8, h = 64",
    ]
    assert [n.name for n in dense_networks([8, 4, 8], 1)] == ["dense, h = 4", "dense, h = 8"]


def test_a_front_is_chosen_by_validation() -> None:
    # the tests of the third network are the best and do not count
    assert [p.network.width for p in report.front(DENSE, lambda p: p.seconds)] == [16, 32, 64]
    # of equal cost the better, of equal accuracy the cheaper
    tie = [point(8, None, 1, 0.8, (0.5,)), point(9, None, 1, 0.9, (0.5,))]
    tie.append(point(10, None, 2, 0.9, (0.9,)))
    assert [p.network.width for p in report.front(tie, lambda p: p.seconds)] == [9]


def test_leads_compare_what_the_same_cost_affords() -> None:
    leads = report.leads(SPARSE, DENSE, lambda p: p.seconds)
    assert [lead.cost for lead in leads] == [1.5, 2, 2.5, 4]
    assert [lead.sparse.network.width for lead in leads] == [64, 64, 128, 128]
    assert [lead.dense.network.width for lead in leads] == [16, 32, 32, 64]
    assert [lead.difference for lead in leads] == pytest.approx([0.05, 0.01, 0.04, 0.02])
    # two samples of two, each with a deviation of sqrt(2)/100: 4.303 is t's quantile at 2 degrees
    assert leads[0].half_width == pytest.approx(4.3027 * (2 * 0.0002 / 2) ** 0.5, rel=1e-4)
    single = [replace(p, tests=p.tests[:1]) for p in DENSE]
    assert all(x.half_width is None for x in report.leads(SPARSE[:1], single, lambda p: p.seconds))


def test_sentences_say_who_is_ahead() -> None:
    slower = [replace(p, kernels="oneDNN", seconds=2 * p.seconds) for p in DENSE]
    lines = report.sentences(TASK, [*DENSE, *slower, *SPARSE])
    assert lines == [
        "At equal time an epoch, 0.75 to 2 s: sparse is ahead by 1.00 to 5.00 points, median "
        "+3.00; against dense, oneDNN, 1 to 2.5 s: sparse is ahead by 4.00 to 8.00 points, median "
        "+5.50.",
        "At equal parameters, 1,500 to 4,000: sparse is ahead by 1.00 to 5.00 points, median "
        "+3.00.",
        "At equal accuracy: dense, h = 64 by torch reaches 86.00 % in 4.0 s; 1/8, 8x8, h = 128 "
        "reaches 88.00 % in 2.5 s, with 0.62 of the time and 0.62 of the parameters.",
    ]


def test_sentences_say_when_sparse_is_behind() -> None:
    lines = report.sentences(TASK, [*DENSE, *(lowered(p, 0.2) for p in SPARSE)])
    assert "sparse is behind by 15.00 to 19.00 points, median -17.00" in lines[0]
    assert lines[-1] == (
        "No sparse network here is as good as the best dense one (dense, h = 64, 86.00 %)."
    )
    mixed = report.sentences(TASK, [*DENSE, *(lowered(p, 0.03) for p in SPARSE)])
    assert "sparse minus dense is -2.00 to +2.00 points, median +0.00" in mixed[0]


def test_fronts_that_cannot_be_compared_say_so() -> None:
    far = [replace(p, seconds=100 * p.seconds) for p in SPARSE]
    assert report.sentences(TASK, [*DENSE, *far])[0] == (
        "At equal time an epoch, nothing can be said: the costs of sparse and dense networks do "
        "not overlap."
    )
    assert report.sentences(TASK, DENSE) == []


def test_shares_balance_the_work() -> None:
    jobs = [Job(n, 0.01, 0, False) for n in dense_networks([1024, 512, 500, 8, 4], 1)]
    parts = runs.shares(jobs, 2)
    assert sorted(job.network.width for part in parts for job in part) == [4, 8, 500, 512, 1024]
    assert [job.network.width for job in parts[0]] == [1024]
    assert runs.shares(jobs[:1], 4) == [jobs[:1]]
    assert runs.shares([], 2) == []


def test_keys_tell_runs_apart() -> None:
    job = Job(Network(8, 1), 0.01, 0, False)
    others = [
        replace(job, rate=0.02),
        replace(job, seed=1),
        replace(job, final=True),
        replace(job, network=Network(8, 2)),
    ]
    tasks = [replace(TASK, epochs=3), replace(TASK, batch_size=8), replace(TASK, data="other")]
    keys = [job.key(TASK), *(o.key(TASK) for o in others), *(job.key(t) for t in tasks)]
    assert len(set(keys)) == len(keys)
    # what does not decide an accuracy changes no key
    assert job.key(replace(TASK, seeds=9, rates=(0.5,), threads=4)) == job.key(TASK)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, r"^epochs must be at least 1, got 0$"),
        ({"rates": ()}, r"^learning_rate must be above 0, got 0\.0$"),
        ({"seeds": 0}, r"^a front needs at least 1 seed, got 0$"),
    ],
)
def test_tasks_are_checked(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TASK, **changes)  # type: ignore[arg-type]


@pytest.mark.skipif(onednn_unavailable() is not None, reason="oneDNN")
def test_onednn_layers_train_as_linear_ones() -> None:
    torch.manual_seed(0)
    linear, other = nn.Linear(6, 5), costs.OneDnnLinear(6, 5)
    other.load_state_dict(linear.state_dict())
    x = torch.randn(7, 6, requires_grad=True)
    outputs = [layer(x) for layer in (linear, other)]
    torch.testing.assert_close(*outputs)
    grads = [
        torch.autograd.grad(y.sin().sum(), [x, *m.parameters()])
        for y, m in zip(outputs, (linear, other), strict=True)
    ]
    torch.testing.assert_close(*grads)
    # the first layer of a network needs no gradient of its input
    other(x.detach()).sum().backward()
    assert other.weight.grad is not None


def test_a_ledger_drops_a_line_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    ledger = Ledger(path, Run)
    run = Run(key_of(["a"]), "dense, h = 8", 0.01, 0, False, 0.5, 10, 12)
    ledger.add(run)
    path.write_text(path.read_text() + '{"key": "b"')
    assert Ledger(path, Run).results == {run.key: run}
    path.write_text('{"key": "b"}\n')
    with pytest.raises(ValueError, match=r"runs\.jsonl:1 is not a result \(.*; delete that line, "):
        Ledger(path, Run)


def test_a_file_of_data_is_read_once_for_all_keys(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "own.npz"
    path.write_bytes(b"as it was")
    read: list[str] = []
    identify = runs.identify
    monkeypatch.setattr(runs, "identify", lambda data: (read.append(data), identify(data))[1])
    task = replace(TASK, data=str(path))
    jobs = [Job(network, 0.01, 0, False) for network in dense_networks([8, 16], 1)]
    keys = [job.key(task) for job in jobs]
    assert len(set(keys)) == 2
    assert read == [str(path)]
    # a copy of the task looks again, as each process does
    path.write_bytes(b"as it is now")
    assert jobs[0].key(replace(task)) != keys[0]
