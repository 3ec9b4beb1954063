"""Flags and sub-commands. Nothing heavy is imported here: ``--help`` answers at once."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import siderostat
from siderostat import errors
from siderostat.reproduce import PAPERS

_EXIT_CODES = """\
exit codes:
  0    done (not fitting into memory, or not being supported, is a result); of a gate: nothing is slower
  1    a gate found a regression
  2    wrong usage, or a file that cannot be used
  3    finished, but cells crashed, timed out, failed or were invalid
  4    nothing could be measured or compared
  5    a gate with --strict could not exclude a regression
  130  interrupted; the message says how to resume
"""


def make() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="siderostat",
        description="Runs scientific machine-learning workloads, and measures them so that the figures can be trusted.",
        epilog=_EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"siderostat {siderostat.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_run(commands)
    _add_plan(commands)
    _add_show(commands)
    _add_report(commands)
    _add_export(commands)
    _add_compare(commands)
    _add_gate(commands)
    _add_history(commands)
    _add_energy(commands)
    _add_trace(commands)
    _add_calibrate(commands)
    _add_validate(commands)
    _add_reproduce(commands)
    _add_list(commands)
    _add_doctor(commands)
    _add_selftest(commands)
    return parser


def call(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Call the command that was parsed; print what goes wrong in one sentence."""
    signal.signal(signal.SIGTERM, _interrupt)
    module = importlib.import_module(f"siderostat.cli.{arguments.module}")
    try:
        code: int = module.main(arguments, words)
    except errors.SiderostatError as error:
        print(f"siderostat: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return errors.DONE
    except KeyboardInterrupt:
        print("siderostat: interrupted", file=sys.stderr)
        return errors.INTERRUPTED
    return code


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


_Commands = argparse._SubParsersAction


def _add(commands: _Commands[argparse.ArgumentParser], name: str, module: str, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(module=module)
    return parser


def _add_sweep_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what is measured; they override the sweep file."""
    parser.add_argument("sweep", nargs="?", metavar="SWEEP.toml|PLAN.json", help="what to measure; default: the tour")
    what = parser.add_argument_group("what to measure (comma-separated lists; each flag overrides the sweep file)")
    what.add_argument(
        "-w", "--workload", metavar="NAMES", help="workloads, or path/to/file.py:Class; see 'list workloads'"
    )
    what.add_argument(
        "-d", "--device", action="append", metavar="NAME", help="a device, such as cpu:threads=2; may be repeated"
    )
    what.add_argument("-b", "--batch", metavar="SIZES", help="batch sizes: 1,8,64 or 1..256x2")
    what.add_argument("--variant", metavar="NAMES", help="variants of the workload, such as dnn")
    what.add_argument("--mode", metavar="NAMES", help="train or infer")
    what.add_argument("--framework", metavar="NAMES", help="torch, tensorflow, ...")
    what.add_argument("--size", metavar="NAMES", help="sizes of the network, such as paper")
    what.add_argument("--precision", metavar="NAMES", help="fp32, ...")
    what.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a workload's option; may be repeated"
    )
    what.add_argument(
        "--compare", nargs="+", metavar="SIDE",
        help="measure sides in lock-step, the first the reference: devices, frameworks, precisions, variants or "
        "settings of the device; cpu:threads=1 cpu:threads=2, or torch tensorflow; + joins several: cuda+bf16",
    )  # fmt: skip
    what.add_argument(
        "--find-capacity", action="store_true",
        help="look also for the largest batch that fits, from the largest that is asked for on",
    )  # fmt: skip
    measures = what.add_mutually_exclusive_group()
    measures.add_argument(
        "--quality", action="store_true", help="say also how good each model is, after a fixed budget of training"
    )
    measures.add_argument(
        "--to-quality", action="store_true", help="measure the time to the quality that each workload states instead"
    )
    how = parser.add_argument_group("how to measure")
    how.add_argument(
        "--grade",
        help="quick (3 processes a case, default), ci (10) or publish (10 to 30, until the interval is within 2 %%)",
    )
    how.add_argument("--seed", type=int, help="of the order of measuring and of the weights; default 0")
    how.add_argument("--budget", metavar="TIME", help="start nothing new after this: 90s, 10m, 2h")
    how.add_argument("--timeout", metavar="TIME", help="longest silence of a worker; default 300s")
    how.add_argument(
        "--memory", metavar="SIZE", help="most memory that workers may allocate: 2GB; default: 90 %% of what is free"
    )
    how.add_argument(
        "--energy-window", metavar="TIME", help="least length of each burst, so that a slow meter can be read: 10s"
    )
    how.add_argument(
        "--estimate-energy", metavar="WATTS",
        help="estimate energy from CPU time and this nameplate power of all processors; good to a factor of two",
    )  # fmt: skip


def _add_run(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = _add(commands, "run", "run", "measure, and write a report")
    _add_sweep_flags(parser)
    where = parser.add_argument_group("where to")
    where.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        help="run folder; default siderostat-runs/TIME; one that holds this run is resumed",
    )
    where.add_argument("--resume", metavar="DIR", help="go on with the run in this folder")
    where.add_argument(
        "--retry", action="store_true", help="measure again what crashed, timed out, failed or was not available"
    )
    where.add_argument("--identify", action="store_true", help="write the host's name in clear, not as a hash")
    where.add_argument("--dry-run", action="store_true", help="say what would run, as 'plan' does")
    where.add_argument("--json", action="store_true", help="print the result as JSON")


def _add_plan(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = _add(commands, "plan", "plan", "say what would run and about how long it takes, without running it")
    _add_sweep_flags(parser)
    parser.add_argument("-o", "--output", metavar="PLAN.json", help="write the plan, for 'siderostat run PLAN.json'")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def _add_show(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = _add(commands, "show", "show", "print the figures of a run")
    parser.add_argument("run", metavar="RUN", help="run folder")
    parser.add_argument("--json", action="store_true", help="print them as JSON")


def _add_report(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = _add(commands, "report", "report", "write the report of one run or of several together")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder")
    parser.add_argument(
        "-o", "--output", metavar="DIR", help="folder to write to; default: RUN/report of the first run"
    )


def _add_compare(commands: _Commands[argparse.ArgumentParser]) -> None:
    text = "say how fast a stored run is against another, and what else differs between them"
    parser = _add(commands, "compare", "compare", text)
    parser.add_argument("first", metavar="RUN_A", help="folder of the run that is compared with")
    parser.add_argument("second", metavar="RUN_B", help="folder of the run that is compared")
    parser.add_argument("-o", "--output", metavar="DIR", help="folder for the page; default: RUN_B/compare")
    parser.add_argument("--json", action="store_true", help="print the ratios and the differences as JSON")


def _add_export(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = _add(commands, "export", "export", "write figures in the formats of other tools")
    parser.add_argument(
        "format", metavar="FORMAT",
        help="lines, pyperf, github-action-benchmark, bencher, conbench, mllog, openmetrics, junit, asv or hyperfine",
    )  # fmt: skip
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="run folder; for junit and github-action-benchmark also a gate's folder"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE|DIR", help="default: standard output, for formats of a single file"
    )
    by_commit = parser.add_argument_group("for asv")
    by_commit.add_argument(
        "--commit", action="append", default=[], metavar="HASH|SIDE=HASH",
        help="what was measured, where the run does not say or another is meant; SIDE: base or head of a gate",
    )  # fmt: skip
    by_commit.add_argument("--machine", metavar="NAME", help="asv's name of the machine; default: the run's host")


def _add_history(commands: _Commands[argparse.ArgumentParser]) -> None:
    text = "draw the times of all runs in a folder, and say where their level changed"
    parser = _add(commands, "history", "history", text)
    parser.add_argument("folder", metavar="FOLDER", help="folder that holds run folders")
    parser.add_argument("-o", "--output", metavar="DIR", help="folder for the page; default: FOLDER/history")
    parser.add_argument("--json", action="store_true", help="print every series as JSON")


def _add_gate(commands: _Commands[argparse.ArgumentParser]) -> None:
    text = "say whether a change of the code made it slower: two revisions measured in lock-step"
    parser = _add(commands, "gate", "gate", text)
    _add_sweep_flags(parser)
    sides = parser.add_argument_group("what is compared: revisions of the repository here, or two environments")
    sides.add_argument("--base", metavar="REV", help="what the head is compared with, such as origin/main")
    sides.add_argument("--head", metavar="REV", default="HEAD", help="default: HEAD; what is not committed is left out")
    sides.add_argument(
        "--base-python", metavar="PYTHON", help="interpreter of an environment that has the base installed"
    )
    sides.add_argument("--head-python", metavar="PYTHON", help="the same of the head")
    rule = parser.add_argument_group("the verdict")
    rule.add_argument("--floor", metavar="SHARE", default="5%", help="slowdown up to which nothing fails; default: 5%%")
    rule.add_argument(
        "--quick", action="store_true",
        help="as many pairs as half of --budget (default 5m) allows, three to ten; the rest is for fresh pairs",
    )  # fmt: skip
    rule.add_argument("--strict", action="store_true", help="exit with 5 where a regression cannot be excluded")
    where = parser.add_argument_group("where to")
    where.add_argument(
        "-o", "--output", metavar="DIR", help="default: siderostat-gates/TIME; one that holds this gate is resumed"
    )
    where.add_argument("--identify", action="store_true", help="write the host's name in clear, not as a hash")
    where.add_argument("--json", action="store_true", help="print the verdicts as JSON")
    parser.set_defaults(retry=False)


def _add_energy(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = _add(commands, "energy", "energy", "work with the energy of a run")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    importing = _add(actions, "import", "energy", "match a wall meter's log with the bursts of a run")
    importing.add_argument("run", metavar="RUN", help="run folder")
    importing.add_argument(
        "log", metavar="LOG.csv", help="CSV with a header, such as time,power_w or timestamp,energy_wh"
    )
    importing.add_argument(
        "--offset", type=float, default=0.0, metavar="SECONDS", help="added to the log's times; default 0"
    )
    importing.add_argument(
        "--scope", default="node_ac", choices=("node_ac", "platform", "gpu_board", "cpu_package"),
        help="what the meter feeds; default: the whole node",
    )  # fmt: skip
    importing.add_argument("--time", metavar="COLUMN", help="column of times: ISO 8601 with offset, or Unix seconds")
    figure = importing.add_mutually_exclusive_group()
    figure.add_argument("--power", metavar="COLUMN", help="column of power; watts unless its name ends in another unit")
    figure.add_argument(
        "--energy", metavar="COLUMN", help="column of a counter; watt-hours unless its name ends in another unit"
    )


def _add_trace(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = _add(
        commands, "trace", "trace", "say what a step computes and moves, operation by operation, without running it"
    )
    parser.add_argument(
        "workload", metavar="WORKLOAD", help="a workload, or path/to/file.py:Class; see 'list workloads'"
    )
    for axis, text in (
        ("variant", "variant of the workload, such as dnn"), ("mode", "train, infer, ..."),
        ("framework", "torch or tensorflow"), ("size", "size of the network, such as paper"),
    ):  # fmt: skip
        parser.add_argument(f"--{axis}", metavar="NAME", help=f"{text}; default: the workload's first")
    parser.add_argument("-b", "--batch", type=int, default=8, metavar="N", help="items per step; default: 8")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a workload's option; may be repeated"
    )
    parser.add_argument(
        "--chip", action="append", default=[], metavar="NAME",
        help="a chip in the roofline picture, or path/to/chip.toml; may be repeated; default: all that come along",
    )  # fmt: skip
    parser.add_argument("-o", "--output", metavar="DIR", help="write a page, its text and all operations there")
    parser.add_argument("--json", action="store_true", help="print the operations as JSON")


def _add_calibrate(commands: _Commands[argparse.ArgumentParser]) -> None:
    text = "fit the parameters of the chip models anew, and print how far each published figure is missed"
    parser = _add(commands, "calibrate", "calibrate", text)
    parser.add_argument(
        "what", nargs="?", choices=("cpu",), help="measure this machine's processor instead, as a chip to simulate"
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR|CPU.toml",
        help="write the files of the fitted parameters there; of a measured processor its file, default: cpu.toml",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=int, metavar="N", help="of a measured processor: how many compute; default: one per core"
    )


def _add_validate(commands: _Commands[argparse.ArgumentParser]) -> None:
    text = "set what a simulated device says beside what was measured on a real one, case by case"
    parser = _add(commands, "validate", "validate", text)
    parser.add_argument(
        "simulated", metavar="sim:CHIP", help="sim:nvidia-h200, sim:cpu.toml, with settings as in 'run'"
    )
    parser.add_argument("--against", required=True, metavar="RUN", help="folder of a run that measured that chip")
    parser.add_argument("-d", "--device", metavar="NAME", help="which of its devices; default: the only one measured")
    parser.add_argument("-o", "--output", metavar="DIR", help="write a page, its text and every case as CSV there")
    parser.add_argument("--json", action="store_true", help="print the cases as JSON")


def _add_reproduce(commands: _Commands[argparse.ArgumentParser]) -> None:
    text = "make published results anew, and say how far what was published is missed; an interrupted one goes on"
    parser = _add(commands, "reproduce", "reproduce", text)
    papers = "; ".join(f"{name}: {paper.text}" for name, paper in PAPERS.items())
    scales = "; ".join(f"{name}: {', '.join(paper.scales)}" for name, paper in PAPERS.items() if paper.scales)
    parser.add_argument("what", metavar="PAPER", choices=tuple(PAPERS), help=papers)
    parser.add_argument("-o", "--output", metavar="DIR", help="folder to write to; default: siderostat-reproduce/PAPER")
    parser.add_argument("--scale", metavar="SCALE", help=f"how much is computed, the default first ({scales})")
    parser.add_argument("--seeds", type=int, metavar="N", help="how many times each training is repeated")


def _add_list(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = _add(commands, "list", "list", "list what can be measured")
    parser.add_argument("what", choices=("workloads", "devices"))
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="with all that can be asked of them; default: all, in short"
    )
    parser.add_argument("--json", action="store_true", help="print the list as JSON, with all details")


def _add_doctor(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = _add(
        commands, "doctor", "doctor", "look at this machine: what is missing, what will disturb, how to mend it"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def _add_selftest(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = _add(
        commands, "selftest", "selftest",
        "measure this machine: its false alarms, the least difference that it can see, the harness's own cost",
    )  # fmt: skip
    parser.add_argument("-d", "--device", default="cpu", metavar="NAME", help="a device; default: cpu")
    parser.add_argument("-o", "--output", metavar="DIR", help="run folder; one that holds a self-test is resumed")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(retry=False, identify=False)
