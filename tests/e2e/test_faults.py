"""Whatever is killed, whenever: what was measured stays, and the same command goes on."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from siderostat.record import Status
from siderostat.store import Run
from tests.conftest import command
from tests.processes import all_end

ROUNDS = 3


def sweep(folder: Path, faulty, *names: str, extra: str = "", device: str = "cpu") -> Path:
    """Write a sweep over batches 1 and 2; on device mock it takes next to no time."""
    table = f'[[sweep]]\nworkload = "{{}}"\nbatches = [1, 2]\ndevices = ["{device}"]\n'
    tables = "".join(table.format(faulty(name)) for name in names)
    path = folder / "sweep.toml"
    path.write_text(extra + tables)
    return path


def start(*words: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(command(["run", *words]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def lines(folder: Path) -> list[str]:
    journal = folder / "records.jsonl"
    return journal.read_text().splitlines() if journal.exists() else []


def wait_for_records(folder: Path, count: int, driver: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while len(lines(folder)) < count and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def family(driver: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the driver's fork servers and workers, whole generations of them."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(driver.pid).children(recursive=True)
    return []


def test_kill_9_of_the_driver_at_random_moments_loses_at_most_one_measurement(tmp_path, faulty, siderostat):
    folder, path = tmp_path / "run", sweep(tmp_path, faulty, "Well")
    dice = random.Random(4)
    total = (2 + 1) * ROUNDS
    before: list[str] = []
    for _ in range(3):
        driver = start(path, "-o", folder)
        wait_for_records(folder, len(before) + 1, driver)
        time.sleep(dice.uniform(0, 1.5))
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        assert Run(folder).warnings == []
        now = lines(folder)
        assert now[: len(before)] == before, "what was there was changed"
        before = [line for line in now if is_whole(line)]
    done = siderostat("run", path, "-o", folder)
    assert done.returncode == 0, done.stderr
    after = lines(folder)
    assert after[: len(before)] == before
    keys = [json.loads(line)["key"] for line in after]
    assert len(keys) == len(set(keys)) == total, "an attempt was measured twice or not at all"


def is_whole(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def test_nothing_of_a_killed_run_stays_behind(tmp_path, faulty):
    driver = start(sweep(tmp_path, faulty, "Hangs"), "-o", tmp_path / "run")
    deadline = time.monotonic() + 60
    while len(family(driver)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    relatives = family(driver)
    assert len(relatives) >= 2, "a fork server and a worker"
    driver.kill()
    driver.wait()
    assert all_end(p.pid for p in relatives)


def test_kill_9_of_workers_at_random_moments_costs_them_alone(tmp_path, faulty):
    folder = tmp_path / "run"
    driver = start(sweep(tmp_path, faulty, "Well"), "-o", folder)
    dice = random.Random(5)
    killed = 0
    while driver.poll() is None:
        time.sleep(dice.uniform(0.5, 1.2))
        workers = [p for p in family(driver) if p.ppid() != driver.pid] if killed < 3 else []
        for worker in workers[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
                killed += 1
    assert killed > 0
    _, errors = driver.communicate()
    records = Run(folder).records
    lost = [r for r in records if r.status is not Status.OK]
    assert len(records) == 3 * ROUNDS, errors
    assert 0 < len(lost) <= killed
    assert all("ended by SIGKILL" in r.detail for r in lost)
    assert driver.returncode == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on(tmp_path, faulty, siderostat, number):
    folder = tmp_path / "run"
    driver = start(sweep(tmp_path, faulty, "Well"), "-o", folder)
    wait_for_records(folder, 7, driver)
    driver.send_signal(number)
    _, errors = driver.communicate(timeout=30)
    assert driver.returncode == 130
    assert f"records are safe: siderostat run --resume {folder}" in errors
    assert "Traceback" not in errors
    done = siderostat("run", "--resume", folder)
    assert done.returncode == 0, done.stderr
    assert len(Run(folder).records) == 3 * ROUNDS


def test_crashes_and_hangs_are_records_the_sweep_goes_on_and_the_exit_code_says_so(tmp_path, faulty, siderostat):
    path = sweep(tmp_path, faulty, "Hangs", "Killed", "Well", extra='timeout = "3s"\n')
    done = siderostat("run", path, "-b", "1", "-o", tmp_path / "run")
    assert done.returncode == 3, done.stderr
    by_name: dict[str, set[str]] = {}
    for record in Run(tmp_path / "run").records:
        by_name.setdefault(record.attempt.cell.workload.rpartition(":")[2], set()).add(record.status.value)
    assert by_name == {"Hangs": {"timeout"}, "Killed": {"crash"}, "Well": {"ok"}, "null": {"ok"}}
    assert "6 measurements failed; the first: " in done.stdout
    assert "Traceback" not in done.stderr


def test_running_out_of_memory_is_a_result_and_not_a_failure(tmp_path, faulty, siderostat):
    plan_path, folder = tmp_path / "plan.json", tmp_path / "run"
    made = siderostat("plan", sweep(tmp_path, faulty, "EatsMemory"), "-b", "1", "-o", plan_path)
    assert made.returncode == 0, made.stderr
    plan = json.loads(plan_path.read_text())
    for group in plan["groups"]:
        for attempt in group:
            attempt["protocol"]["memory_bytes"] = 1_500_000_000
    plan_path.write_text(json.dumps(plan))
    done = siderostat("run", plan_path, "-o", folder)
    assert done.returncode == 0, done.stderr
    reasons = {r.reason.value for r in Run(folder).records if r.reason}
    assert reasons == {"oom_host"}


def test_a_corrupt_last_line_is_left_out_and_measured_again(tmp_path, faulty, siderostat):
    folder, path = tmp_path / "run", sweep(tmp_path, faulty, "Well", device="mock")
    assert siderostat("run", path, "-o", folder).returncode == 0
    journal = folder / "records.jsonl"
    whole = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(whole[:-1]) + whole[-1][:-30] + "\n")
    shown = siderostat("show", folder)
    assert shown.returncode == 0
    assert f"records.jsonl:{len(whole)}: left out, not a record" in shown.stderr
    done = siderostat("run", path, "-o", folder)
    assert done.returncode == 0, done.stderr
    assert len(Run(folder).records) == len(whole)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("no permission to mount a small tmpfs here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_ends_in_a_sentence_and_loses_nothing(tmp_path, faulty, siderostat, small_disk):
    folder, path = small_disk / "run", sweep(tmp_path, faulty, "Well")
    driver = start(path, "-o", folder)
    wait_for_records(folder, 2, driver)
    fill = small_disk / "fill"
    with fill.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 2, errors
    assert "No space left on device" in errors
    assert f"siderostat run --resume {folder}" in errors
    assert "Traceback" not in errors
    kept = lines(folder)
    assert len(kept) >= 2
    assert Run(folder).warnings == []
    fill.unlink()
    done = siderostat("run", "--resume", folder)
    assert done.returncode == 0, done.stderr
    assert lines(folder)[: len(kept)] == kept
    assert len(Run(folder).records) == 3 * ROUNDS


def test_two_drivers_in_one_folder(tmp_path, faulty, siderostat):
    folder, path = tmp_path / "run", sweep(tmp_path, faulty, "Well")
    driver = start(path, "-o", folder)
    wait_for_records(folder, 1, driver)
    second = siderostat("run", path, "-o", folder)
    driver.send_signal(signal.SIGINT)
    assert second.returncode == 2
    assert "another siderostat is measuring into" in second.stderr
    driver.communicate(timeout=60)
