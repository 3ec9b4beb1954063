"""A wall meter's log: known energies come out, and what the log cannot tell is refused with its reason."""

from __future__ import annotations

import json
import math
import random
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siderostat import cli, files, plan, store, wall_meter
from siderostat.energy import per_item
from siderostat.errors import BadValue
from siderostat.plan import GRADES
from siderostat.record import Burst, EnergyStatus, Protocol, Provenance, Record
from siderostat.store import OpenRun, Run
from siderostat.wall_meter import Log, read_csv
from tests.records import idle, ok

START = 1_800_000_000.0


def bursts(*stretches: tuple[float, float]) -> list[Burst]:
    """Bursts that begin so many seconds after the start and last so long."""
    return [
        Burst(turn, 10, [seconds / 2] * 2, [1.0] * 2, {"wall_s": seconds}, started_at=START + begin)
        for turn, (begin, seconds) in enumerate(stretches)
    ]


def record(*stretches: tuple[float, float], round: int = 0, **changes) -> Record:
    return ok(round=round, bursts=bursts(*stretches), **changes)


def log(watts, seconds: float = 600.0, period: float = 1.0, quantity: str = "power_w") -> Log:
    """A meter that reads a power over time, or counts its energy."""
    times = [START - 60 + i * period for i in range(int((seconds + 120) / period))]
    if quantity == "power_w":
        return Log("meter.csv", "ab" * 32, "node_ac", quantity, 0.0, times, [watts(t - START) for t in times])
    values, total = [], 0.0
    for t in times:
        total += watts(t - START) * period
        values.append(total)
    return Log("meter.csv", "ab" * 32, "node_ac", quantity, 0.0, times, values)


def windows(of: Record, by: Log):
    (energy,) = wall_meter.matched(of, by).energy
    return energy.windows


def only(of: Record, by: Log):
    (found,) = windows(of, by)
    return found


@pytest.mark.parametrize("quantity", ["power_w", "energy_j"])
def test_the_energy_of_a_burst_is_its_own_however_much_the_node_draws_before_and_after(quantity):
    meter = log(lambda t: 300.0 if 100.3 <= t < 140.3 else 80.0, quantity=quantity)
    found = only(record((100.3, 40.0)), meter)
    assert found.status is EnergyStatus.INDICATIVE
    assert found.joules == pytest.approx(300.0 * 40.0, rel=0.02)
    assert found.n_updates in (39, 40)
    assert found.u_joules == pytest.approx(found.joules / found.n_updates / math.sqrt(3))


def test_a_changing_power_is_integrated():
    found = only(record((100.0, 200.0)), log(lambda t: 100 + 50 * math.sin(t / 7), period=0.5))
    truth = 100 * 200 + 50 * 7 * (math.cos(100 / 7) - math.cos(300 / 7))
    assert found.status is EnergyStatus.OK
    assert found.joules == pytest.approx(truth, rel=0.002)
    assert found.max_w == pytest.approx(150, rel=0.01)


def test_items_of_a_window_are_those_of_its_burst():
    (found,) = per_item([wall_meter.matched(record(*((60.0 * i, 30.0) for i in range(6))), log(lambda t: 200.0))])
    assert (found.source, found.scope, found.provenance) == ("wall_meter", "node_ac", Provenance.MEASURED)
    assert found.joules_per_item == pytest.approx(200.0 * 30 / (20 * 4))  # 20 steps of 4 items
    assert found.u95_scatter == pytest.approx(0.0, abs=1e-9)
    assert found.board == "log:" + "ab" * 8


def test_bursts_that_take_turns_each_have_the_power_of_their_own():
    def watts(t: float) -> float:
        return 400.0 if (t // 30) % 2 == 0 else 150.0

    one = record(*((60.0 * i + 0.4, 29.2) for i in range(5)))
    other = record(*((60.0 * i + 30.4, 29.2) for i in range(5)))
    assert [w.mean_w for w in windows(one, log(watts))] == pytest.approx([400.0] * 5)
    assert [w.mean_w for w in windows(other, log(watts))] == pytest.approx([150.0] * 5)


def test_too_few_samples_name_the_burst_that_would_do():
    found = only(record((100.0, 12.0)), log(lambda t: 200.0))
    assert (found.status, found.joules) == (EnergyStatus.TOO_SHORT, None)
    assert "20 are needed: bursts of 21 s would do (--energy-window 21s)" in found.reason
    assert only(record((100.0, 21.0)), log(lambda t: 200.0)).joules is not None


def test_a_coarse_counter_is_judged_by_its_steps_and_not_by_its_samples():
    meter = log(lambda t: 180.0, quantity="energy_j")
    coarse = Log(**{**vars(meter), "values": [v // 3600 * 3600 for v in meter.values]})  # steps of 1 Wh: 20 s each
    found = only(record((100.0, 100.0)), coarse)
    assert found.status is EnergyStatus.TOO_SHORT
    assert "5 updates of the meter in 1e+02 s" in found.reason
    assert "--energy-window 4" in found.reason or "--energy-window 35" in found.reason


@pytest.mark.parametrize(
    ("begin", "words"), [(-100.0, "begins after the burst, by 40 s"), (640.0, "ends before the burst does, by 31 s")]
)
def test_a_burst_outside_the_log_is_refused(begin, words):
    (energy,) = wall_meter.matched(record((begin, 50.0)), log(lambda t: 200.0)).energy
    assert energy.windows[0].status is EnergyStatus.UNSUPPORTED
    assert words in energy.windows[0].reason
    assert "--offset" in energy.remedy


def test_a_gap_within_the_burst_is_refused_and_one_beside_it_is_not():
    meter = log(lambda t: 200.0)
    kept = [i for i, t in enumerate(meter.times) if not 110 < t - START < 115]
    holed = Log(**{
        **vars(meter), "times": [meter.times[i] for i in kept], "values": [meter.values[i] for i in kept],
    })  # fmt: skip
    found = only(record((100.0, 60.0)), holed)
    assert found.status is EnergyStatus.STALE_COUNTER
    assert "gap of 5 s in this burst, and usually has a sample every 1 s" in found.reason
    assert only(record((116.0, 60.0)), holed).joules == pytest.approx(200.0 * 60)


def test_a_counter_that_goes_back_is_refused():
    meter = log(lambda t: 200.0, quantity="energy_j")
    reset = Log(**{
        **vars(meter),
        "values": [v if t < START + 130 else v - 30_000 for t, v in zip(meter.times, meter.values, strict=True)],
    })  # fmt: skip
    assert only(record((100.0, 60.0)), reset).status is EnergyStatus.COUNTER_RESET
    assert only(record((140.0, 60.0)), reset).joules == pytest.approx(200.0 * 60)


def test_a_record_that_does_not_say_when_it_ran_is_told_so():
    (energy,) = wall_meter.matched(ok(), log(lambda t: 200.0)).energy
    assert (energy.provenance, energy.status) == (None, EnergyStatus.UNSUPPORTED)
    assert "does not say when its bursts were" in energy.reason


def test_a_simulated_device_has_no_energy_by_the_wall():
    modelled = record((100.0, 60.0), provenance=Provenance.MODELLED)
    assert wall_meter.matched(modelled, log(lambda t: 200.0)) == modelled


def test_idle_power_by_the_wall_is_taken_while_the_device_was_watched():
    watched = idle(10.0, seconds=30.0)
    watched.energy[0].windows[0] = type(watched.energy[0].windows[0])(0, 0, START + 10, 30.0, EnergyStatus.TOO_SHORT)
    energy = wall_meter.matched(watched, log(lambda t: 90.0)).energy[-1]
    assert (energy.source, energy.windows[0].mean_w) == ("wall_meter", pytest.approx(90.0))


@given(st.floats(0, 300), st.floats(25, 200), st.floats(25, 200), st.integers(0, 2**32))
def test_windows_side_by_side_add_up(begin, first, second, seed):
    noise = random.Random(seed)
    meter = log(lambda t: 200 + noise.uniform(-50, 50), seconds=800)
    parts = windows(record((begin, first), (begin + first, second)), meter)
    whole = only(record((begin, first + second)), meter)
    # At most an update is missed at each edge, where the mean of the others stands for it.
    assert sum(p.joules for p in parts) == pytest.approx(whole.joules, abs=3 * 250)


# From a file to the log.


def written(tmp_path: Path, text: str | bytes, name: str = "meter.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


STAMP = int(START)


@pytest.mark.parametrize(
    ("text", "quantity", "values"),
    [
        (f"time,watts\n{STAMP},100\n{STAMP + 1},110.5\n", "power_w", [100.0, 110.5]),
        (f"timestamp,power_w\n{STAMP},100\n\n{STAMP + 1},110.5\n", "power_w", [100.0, 110.5]),
        (f"Time;Voltage (V);Active power (kW)\r\n{STAMP};230;0.1\r\n{STAMP + 1};230;0.2\r\n", "power_w", [100.0, 200.0]),
        (f"unix_time\tenergy_wh\n{STAMP}\t1\n{STAMP + 1}\t1.5\n", "energy_j", [3600.0, 5400.0]),
        (f"\ufefftime,energy_kwh,current_a\n{STAMP},0.001,1\n{STAMP + 1},0.002,1\n", "energy_j", [3600.0, 7200.0]),
        (f"time,energy_j,power_w\n{STAMP},5,100\n{STAMP + 1},105,101\n", "power_w", [100.0, 101.0]),
    ],
)  # fmt: skip
def test_columns_are_known_by_name_and_unit(tmp_path, text, quantity, values):
    found = read_csv(written(tmp_path, text))
    assert (found.quantity, found.values, found.times) == (quantity, pytest.approx(values), [START, START + 1])


def test_columns_can_be_named(tmp_path):
    path = written(tmp_path, f"time,when_s,l1_w,l2_w,total\n1,{STAMP},5,6,11\n2,{STAMP + 1},5,6,11\n")
    assert read_csv(path, time="when_s", power="total").values == [11.0, 11.0]
    assert read_csv(path, time="when_s", energy="total").values == [11 * 3600.0] * 2
    with pytest.raises(BadValue, match="several columns of power among l1_w, l2_w; name one with --power"):
        read_csv(path, time="when_s")
    with pytest.raises(BadValue, match="no column 'x'; the columns are time, when_s, l1_w"):
        read_csv(path, power="x")


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=2))])
def test_times_are_iso_8601_with_an_offset_and_can_be_shifted(tmp_path, zone):
    stamps = [datetime.fromtimestamp(START + i, zone).isoformat() for i in (0, 1.5)]
    text = "time,watts\n" + "".join(f"{s.replace('+00:00', 'Z')},1\n" for s in stamps)
    assert read_csv(written(tmp_path, text)).times == [START, START + 1.5]
    assert read_csv(written(tmp_path, text), offset_s=-3.0).times == [START - 3.0, START - 1.5]


GOOD = f"time,watts\n{STAMP},100\n"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "the log is empty"),
        ("\n\n", 1, "the log is empty"),
        ("time,watts\n", 1, "0 samples; at least two"),
        (GOOD, 1, "1 samples; at least two"),
        (f"when,watts\n{STAMP},1\n", 1, "no column of time among when, watts; name one with --time"),
        (f"time,power\n{STAMP},1\n", 1, "no column of power or energy with a unit, such as power_w or energy_wh"),
        (GOOD + "yesterday,100\n", 3, "'yesterday' is no time; it should be ISO 8601"),
        (GOOD + "2027-01-15T09:00:00,100\n", 3, "no offset from UTC; write it with one (2027-01-15T09:00:00+00:00)"),
        (GOOD + "12.5,100\n", 3, "not a Unix time in seconds"),
        (GOOD + f"{STAMP * 1000},100\n", 3, "not a Unix time in seconds"),
        (GOOD + "nan,100\n", 3, "not a Unix time in seconds"),
        (GOOD + f"{STAMP},100\n", 3, "is not after that of the line before"),
        (GOOD + f"{STAMP - 1},100\n", 3, "is not after that of the line before"),
        (GOOD + f"{STAMP + 1},-5\n", 3, "'-5' is no power or energy"),
        (GOOD + f"{STAMP + 1},nan\n", 3, "'nan' is no power or energy"),
        (GOOD + f"{STAMP + 1},1e999\n", 3, "'1e999' is no power or energy"),
        (GOOD + f"{STAMP + 1},many\n", 3, "'many' is no power or energy"),
        (GOOD + f"{STAMP + 1}\n", 3, "the line has 1 fields"),
        (GOOD.encode() + b"\xff\xfe,1\n", 3, "not UTF-8"),
    ],
)
def test_a_bad_log_is_refused_in_a_sentence_that_names_its_line(tmp_path, text, line, words):
    path = written(tmp_path, text)
    with pytest.raises(BadValue) as caught:
        read_csv(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200))
def test_whatever_is_in_a_file_it_is_a_log_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("logs") / "meter.csv"
    path.write_bytes(b"time,watts\n" + data)
    try:
        found = read_csv(path)
    except BadValue:
        return
    assert len(found.times) == len(found.values) >= 2
    assert all(a < b for a, b in zip(found.times, found.times[1:], strict=False))


# Into the run folder and out of it.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    of = record(*((60.0 * i, 30.0) for i in range(6)))
    store.create(tmp_path / "run", plan.make([[of.attempt.cell]], "test", GRADES["quick"], 0, Protocol()), {"run": "r"})
    with OpenRun(tmp_path / "run") as run:
        run.append(of)
    return tmp_path / "run"


def meter_file(tmp_path: Path, watts: float = 200.0, name: str = "meter.csv") -> Path:
    lines = [f"{START - 30 + i},{watts}" for i in range(500)]
    return written(tmp_path, "\n".join(["time,power_w", *lines]), name)


def test_an_imported_log_gives_the_runs_records_their_energy_and_leaves_the_journal_alone(folder, tmp_path, capsys):
    journal = (folder / store.JOURNAL).read_bytes()
    assert cli.main(["energy", "import", str(folder), str(meter_file(tmp_path))]) == 0
    assert (folder / store.JOURNAL).read_bytes() == journal
    printed = capsys.readouterr().out
    assert "500 samples of power, one every 1 s" in printed
    assert "Energy of 6 of 6 bursts is known from it." in printed
    (found,) = per_item(Run(folder).records)
    assert found.joules_per_item == pytest.approx(200.0 * 30 / 80)


def test_importing_again_replaces_what_was_there(folder, tmp_path):
    assert cli.main(["energy", "import", str(folder), str(meter_file(tmp_path))]) == 0
    assert cli.main(["energy", "import", str(folder), str(meter_file(tmp_path, 400.0)), "--scope", "platform"]) == 0
    (found,) = per_item(Run(folder).records)
    assert (found.joules_per_item, found.scope) == (pytest.approx(400.0 * 30 / 80), "platform")


def test_a_log_of_another_clock_is_said_to_be_and_mended_by_an_offset(folder, tmp_path, capsys):
    shifted = written(tmp_path, "\n".join(["time,power_w", *(f"{START + 3570 + i},200" for i in range(500))]))
    assert cli.main(["energy", "import", str(folder), str(shifted)]) == 0
    assert "Energy of 0 of 6 bursts is known from it; 6 are refused as unsupported" in (out := capsys.readouterr().out)
    assert "--offset" in out
    assert cli.main(["energy", "import", str(folder), str(shifted), "--offset", "-3600"]) == 0
    assert "Energy of 6 of 6" in capsys.readouterr().out


def test_what_cannot_be_imported_changes_nothing(folder, tmp_path, capsys, monkeypatch):
    assert cli.main(["energy", "import", str(folder), str(meter_file(tmp_path))]) == 0
    before = (folder / wall_meter.FILE).read_bytes()
    assert cli.main(["energy", "import", str(folder), str(written(tmp_path, "time,watts\nx,1\n", "bad.csv"))]) == 2
    assert "bad.csv:2: 'x' is no time" in capsys.readouterr().err
    assert cli.main(["energy", "import", str(folder), str(tmp_path / "none.csv")]) == 2
    assert cli.main(["energy", "import", str(tmp_path), str(meter_file(tmp_path))]) == 2
    assert cli.main(["energy", "import", str(folder), str(meter_file(tmp_path)), "--offset", "inf"]) == 2
    monkeypatch.setattr(files.Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert cli.main(["energy", "import", str(folder), str(meter_file(tmp_path, 7.0))]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert (folder / wall_meter.FILE).read_bytes() == before
    assert not list(folder.glob(".wall*"))


def test_the_log_comes_back_as_it_was_kept(tmp_path):
    meter = log(lambda t: 100 + t / 3, seconds=50)
    path = written(tmp_path, meter.text(), wall_meter.FILE)
    assert wall_meter.load(path) == meter
    assert json.loads(path.read_text().splitlines()[0])["sha256"] == meter.sha256


@pytest.mark.parametrize("damage", ["", "{}\n", "[1,2]\n", '{"schema": 2}\n', '{"schema": 1}\n[1,2]\n', "{\n"])
def test_a_damaged_log_is_left_out_with_a_warning_and_the_records_are_there(folder, damage):
    (folder / wall_meter.FILE).write_text(damage)
    run = Run(folder)
    assert len(run.records) == 1
    assert run.records[0].energy == []
    assert "wall_meter.jsonl: left out, damaged" in run.warnings[0]
