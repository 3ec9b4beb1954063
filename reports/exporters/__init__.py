"""Figures in the formats of other tools, one module for each, by one table of names.

A module has ``export(series)``, from :class:`siderostat.reports.exporters.series.Series` to an :class:`Export`; where a
format can also say what a gate found, ``export_gates(gates)`` too. A further format is a module and a line in
:data:`FORMATS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Format:
    """A format by its name.

    Attributes:
        module: that writes it, in this package.
        about: who reads it, in a few words.
        takes_gates: whether a gate's folder can be given instead of a run's.
        is_by_commit: whether its results are kept by commit, so that ``export`` takes the folder where they are,
            commits and a machine's name besides.
    """

    module: str
    about: str
    takes_gates: bool = False
    is_by_commit: bool = False


FORMATS: Mapping[str, Format] = {
    "lines": Format("lines", "one line for each figure, for regular expressions: ReFrame, Ramble, shell scripts"),
    "pyperf": Format("pyperf", "pyperf's JSON, one run for each process"),
    "github-action-benchmark": Format(
        "github_action_benchmark", "two files for github-action-benchmark, one for each direction", takes_gates=True
    ),
    "bencher": Format("bencher", "Bencher Metric Format"),
    "conbench": Format("conbench", "Conbench BenchmarkResults, one on each line"),
    "mllog": Format("mllog", "lines of MLPerf logging, :::MLLOG"),
    "openmetrics": Format("openmetrics", "OpenMetrics text, for Prometheus"),
    "junit": Format("junit", "JUnit XML, for the test view of a CI service", takes_gates=True),
    "asv": Format("asv", "a folder of airspeed velocity's results, by machine and commit", is_by_commit=True),
    "hyperfine": Format("hyperfine", "JSON as hyperfine --export-json writes it"),
}
"""Every format by the name that ``siderostat export`` takes."""


@dataclass(frozen=True)
class Export:
    """What came of an export.

    Attributes:
        files: name -> parts of its text, in order; none where there was nothing that the format can hold.
        notes: sentences about what the format cannot hold.
    """

    files: Mapping[str, Iterable[str]]
    notes: list[str] = field(default_factory=list)
