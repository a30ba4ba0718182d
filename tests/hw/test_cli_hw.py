"""The `dnc-hw` command: what it prints, writes and refuses; sweeps are in test_cli_sweep.py."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hw.small_digits import write_digits
from numpy.typing import NDArray

from dnc_hw import cli
from dnc_hw.devices import Device
from dnc_hw.engine import Engine
from dnc_hw.parameters import initial_parameters
from dnc_hw.planning import plan
from dnc_hw.presets import preset

FORMAT = {"integer_bits": 2, "fraction_bits": 7}
COMMANDS = ("simulate", "sweep", "plan", "schedule", "trace", "resources", "validate")


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(write_digits(tmp_path / "digits.npz"))


def code(*arguments: str) -> int:
    """Run the command and return its exit code."""
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    return int(stop.value.code or 0)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert code(command, "-h") == 0
    assert f"dnc-hw {command}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert code("--version") == 0
    assert re.fullmatch(r"dnc-hw [\d.]+\S*\n", capsys.readouterr().out)


def test_resources_of_the_published_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "record.json"
    assert code("resources", "mnist-12bit", "--json", str(file)) == 0
    shown = capsys.readouterr().out
    assert "10,912 words, 110,464 bits (13.5 KiB)" in shown
    assert "34 clocks at 15 MHz: 2.267 us per input, 441,176 inputs/s" in shown
    assert "fits xc7a100t (LUT by estimate)" in shown
    assert "(estimate, uncalibrated)" in shown
    record = json.loads(file.read_text())
    assert record["storage_words"] == 10_912
    assert record["resources"]["dsp"] == 224


def test_a_machine_that_does_not_fit_says_what_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    assert code("resources", "mnist-12bit", "--device", "xc7a35t") == 0
    shown = capsys.readouterr().out
    assert re.search(r"does not fit xc7a35t: 134 DSP, [\d,]+ LUT \(estimate\) too many", shown)


def test_machine_from_toml_with_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "machine.toml"
    file.write_text('preset = "small"\npipeline_clocks = 2\nclock_mhz = 100.0\n')
    assert code("resources", str(file), "--lanes", "16,4", "--format", "3,8") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("64-16-4, 160 edges (14.7 % of dense), lanes 16,4, 12 bits (1, 3, 8)")
    assert "12 clocks at 100 MHz" in shown


def test_schedule_of_two_junctions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "schedule.png"
    assert code("schedule", "mnist-12bit", "--cycles", "5", "--plot", str(picture)) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:8] == [
        "cycle  0 1 2 3 4",
        "load   0 1 2 3 4",
        "FF 1   . 0 1 2 3",
        "FF 2   . . 0 1 2",
        "BP 2   . . . 0 1",
        "UP 2   . . . 0 1",
        "UP 1   . . . . 0",
    ]
    assert "a junction cycle is 34 clocks: 32 to issue the edges and 2 to flush" in "\n".join(lines)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_schedule_with_stalls(capsys: pytest.CaptureFixture[str]) -> None:
    assert code("schedule", "mnist-12bit-pipelined", "--hazards", "stall") == 0
    shown = capsys.readouterr().out
    assert "is 66 clocks: 62 to issue the edges and 4 to flush" in shown
    assert "junction 1: busy in 32 of 62 clocks; inputs" in shown
    assert "junction 2: busy in 32 of 62 clocks and stalled in 30; inputs" in shown


def test_plan_is_fastest_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.json"
    assert code("plan", "test-deep", "--limit", "2", "--json", str(file)) == 0
    assert re.search(r"\d+ more; --limit shows them", capsys.readouterr().out)
    choices = json.loads(file.read_text())
    assert choices[0]["lanes"] == [64, 32]
    assert choices[0]["cycle_clocks"] == 4
    clocks = [choice["cycle_clocks"] for choice in choices]
    assert clocks == sorted(clocks)
    assert all(choice["fits"] for choice in choices)


def test_plan_marks_choices_that_no_other_beats() -> None:
    choices = plan({"layers": (64, 16, 4), "fan_out": (2, 2), "lanes": (32, 8), "number": FORMAT})
    for choice in choices:
        beaten = any(
            other.resources.dsp <= choice.resources.dsp
            and other.machine.cycle_clocks <= choice.machine.cycle_clocks
            and (other.resources.dsp, other.machine.cycle_clocks)
            != (choice.resources.dsp, choice.machine.cycle_clocks)
            for other in choices
        )
        assert not (choice.best and beaten)


@pytest.mark.parametrize(
    ("lut", "dsp", "text"),
    [
        (100, 90, r"^none of \d+ choices of lanes fits tiny; the smallest, \[1, 1\], lacks "),
        (9000, 2, r"^no choice of lanes has at most the 2 DSP of tiny; take a larger device$"),
    ],
)
def test_plan_of_a_device_that_is_too_small(lut: int, dsp: int, text: str) -> None:
    tiny = Device("tiny", lut=lut, lutram=9000, flip_flops=9000, bram36=100, dsp=dsp)
    sizes = {"layers": (16, 8, 4), "fan_out": (2, 2), "lanes": (8, 4), "number": FORMAT}
    with pytest.raises(ValueError, match=text):
        plan({**sizes, "device": tiny})


def test_trace_has_every_access(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wave, table = tmp_path / "t.vcd", tmp_path / "t.csv"
    arguments = ("trace", "test-shallow", "--pipeline", "2", "--hazards", "emulate")
    files = ("--vcd", str(wave), "--csv", str(table), "--first", "3", "--cycles", "2")
    assert code(*arguments, *files) == 0
    machine = preset("test-shallow", pipeline_clocks=2, hazards="emulate")
    events = Engine(machine, initial_parameters(machine)).events(3, 2)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len(rows) == len(events)
    assert f"{len(events):,} accesses in 2 junction cycles of 8 clocks" in capsys.readouterr().out
    assert [int(row["clock"]) for row in rows] == events[:, 1].tolist()

    header, _, changes = wave.read_text().partition("$enddefinitions $end\n")
    names = dict(re.findall(r"\$var \w+ \d+ (\S+) (\w+)", header))
    # of up to 8 clocks and 5 cycles; an integer has a sign
    assert "$var integer 5 " in header
    assert len(names) == len(re.findall(r"\$var ", header))
    assert header.count("$scope") == header.count("$upscope")
    times = [int(at) for at in re.findall(r"^#(\d+)$", changes, re.MULTILINE)]
    assert times == sorted(set(times))
    assert times[0] == 0
    assert times[-1] == round(2 * 8 * 1e6 / 15)
    assert active_clocks(changes, names) == active_in(events)
    (hazard,) = [sign for sign, name in names.items() if name == "hazard_junction_2"]
    assert f"\n1{hazard}\n" in changes


def test_trace_with_addresses(tmp_path: Path) -> None:
    wave, table = tmp_path / "t.vcd", tmp_path / "t.csv"
    files = ("--vcd", str(wave), "--csv", str(table), "--first", "1", "--cycles", "2")
    assert code("trace", "test-deep", "--addresses", *files) == 0
    rows = list(csv.DictReader(table.read_text().splitlines()))
    # the published interleaver: in clock k every memory of 4 words is at word k mod 4
    for place, lanes in (("0", 16), ("1", 8)):
        reads = [r for r in rows if (r["place"], r["access"]) == (place, "forward_read")]
        reads = [r for r in reads if r["memory"] == "activation"]
        assert len(reads) == 2 * 8
        for row in reads:
            word = int(row["clock"]) % 4
            assert row["words"] == " ".join(f"{lane}:{word}" for lane in range(lanes))

    header, _, changes = wave.read_text().partition("$enddefinitions $end\n")
    signal = re.compile(r"\$var wire 3 (\S+) \w+_lane_\d+ \[2:0\] \$end")
    held: dict[str, str] = {}
    # clocks of all lanes together in which the word is known, and the sum of those words
    known = total = 0
    for step in re.split(r"^#\d+\n", changes, flags=re.MULTILINE)[1:-1]:
        pairs = (line.partition(" ") for line in step.splitlines())
        held |= {sign: value for value, _, sign in pairs if sign}
        words = [held[sign] for sign in signal.findall(header) if held[sign] != "bx"]
        known += len(words)
        total += sum(int(word[1:], 2) for word in words)
    words = [int(at.partition(":")[2]) for row in rows for at in row["words"].split()]
    assert (known, total) == (len(words), sum(words))


def active_clocks(changes: str, names: dict[str, str]) -> int:
    """Count the clocks in which each access signal is high, of all signals together."""
    high: set[str] = set()
    count = before = 0
    for line in changes.splitlines():
        if line.startswith("#"):
            now = round(int(line[1:]) * 15 / 1e6)
            count += len(high) * (now - before)
            before = now
        elif line[0] in "01":
            (high.add if line[0] == "1" else high.discard)(line[1:])
            if names[line[1:]].startswith("hazard"):
                high.discard(line[1:])
    return count


def active_in(events: NDArray[np.int32]) -> int:
    """Count the clocks of each memory, place, bank and access that has one or several."""
    return len({tuple(row[:6]) for row in events.tolist()})


def test_simulate_then_infer(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, record, picture = (str(tmp_path / name) for name in ("w.npz", "r.json", "p.png"))
    common = ("simulate", "small", "--data", data)
    training = ("--epochs", "2", "--own-values", "--save", weights, "--json", record)
    assert code(*common, *training, "--plot", picture) == 0
    shown = capsys.readouterr().out
    assert "4,824 clocks, 6 per input; at 15 MHz 0.3 ms" in shown
    assert "4 of 64 inputs are padding, always zero" in shown
    assert "junction 2: lanes used 66.7 %, 0 stall clocks per input, 0 clashes, 0 hazards" in shown
    clipped = r"  clipped results: [\d,]+ sums, 0 products, 0 partial deltas, \d+ parameters"
    assert len(re.findall(clipped, shown)) == 2
    tested = re.search(r"test split: .*", shown)
    written = json.loads(Path(record).read_text())
    assert written["training"]["clocks"] == 4_824
    assert written["training"]["curve"][-1][0] == 800
    assert written["training"]["junctions"][0]["clipped"]["products"] == 0
    assert written["test"]["accuracy"] > 0.5
    assert Path(picture).read_bytes().startswith(b"\x89PNG")
    assert code(*common, "--infer", "--load", weights) == 0
    assert tested is not None
    assert tested[0] in capsys.readouterr().out


def test_validate_shows_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = Path(__file__).parent / "small.npz"
    assert code("validate", str(good)) == 0
    equal = capsys.readouterr().out
    assert "small: of the last 1,000 inputs correct, after each pass: 5\n" in equal
    assert re.search(r"all [\d,]+ recorded values are equal", equal)
    with np.load(good) as stored:
        arrays = dict(stored)
    arrays["act1"][5, 2] ^= 1
    np.savez(tmp_path / "wrong.npz", **arrays)
    assert code("validate", str(tmp_path / "wrong.npz"), "--details") == 2
    shown = capsys.readouterr()
    assert re.search(r"act1 .* 1 .*\[5, 2\]", shown.out)
    assert re.search(r"error: 1 of [\d,]+ recorded values differ", shown.err)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("resources smal", "unknown preset 'smal' (nearest: small); choose one of "),
        ("resources none.toml", "no machine file none.toml; name a .toml that exists, or a "),
        (
            "resources small --lanes 24,8",
            "junction 1: 64 left neurons cannot be spread over 24 lanes; choose a divisor of 64, "
            "such as 16 or 32",
        ),
        (
            "resources small --lanes 32,x",
            "--lanes takes numbers with commas between, such as 128,32; got ",
        ),
        ("resources small --format 12", "--format takes integer and fraction bits, such as 3,8 "),
        ("resources small --format 0,8", "a format needs at least 1 integer and 3 fraction bits"),
        ("resources small --device xc7a10t", "unknown device 'xc7a10t'; known devices: "),
        ("schedule small --pipeline -1", "pipeline_clocks must not be negative, got -1; "),
        ("plan small --kind 4", "unknown kind of pattern '4'; choose published, 1, 2, 3"),
        ("plan small --pattern-seed 3", "--pattern-seed 3 draws edges of kind 1, 2 or 3; give --k"),
        ("trace small", "a trace goes into a file; give --vcd FILE, --csv FILE or both"),
        ("simulate small --infer", "--infer needs --load, the weights that `dnc-hw simulate "),
        ("simulate small --data {data} --samples 401", "--samples 401 of a split of 400; take "),
        ("simulate small --data {data} --load {data}", "{data} lacks w1, b1, w2, b2; it has "),
        ("validate none.npz", "none.npz does not exist; give the path of an .npz file"),
        ("validate small.npz --simulator rtl", "unknown simulator 'rtl'; choose engine or model"),
    ],
)
def test_bad_input(
    arguments: str, text: str, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code(*arguments.format(data=data).split()) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: {text.format(data=data)}")
    assert shown.err.count("\n") == 1
