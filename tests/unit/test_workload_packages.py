"""Workloads of other packages: found by their entry points, and named where they cannot be used."""

from __future__ import annotations

import pytest

from siderostat import workloads
from siderostat.config import load_workload
from siderostat.errors import BadValue, UnknownName

WORKS = """
from siderostat.workloads.null import Null
class Mine(Null):
    title = "of a laboratory"
NOT_ONE = 3
"""


def test_a_package_brings_a_workload(package):
    package("lab", workloads.GROUP, WORKS, spectra="Mine")
    assert "spectra" in workloads.names()
    assert (workloads.load("spectra").name, workloads.load("spectra").title) == ("spectra", "of a laboratory")


def test_a_workload_of_siderostat_goes_before_one_of_the_same_name(package):
    package("lab", workloads.GROUP, WORKS, null="Mine")
    assert workloads.load("null").title != "of a laboratory"


@pytest.mark.parametrize(
    ("code", "entry", "words"),
    [
        ("import no_such_module", "Mine", "of the package lab cannot be imported .*no_such_module"),
        (WORKS, "NOT_ONE", "lab:NOT_ONE is no subclass of siderostat.workloads.base.Workload"),
        (WORKS, "Missing", "of the package lab cannot be imported .*Missing"),
    ],
)
def test_a_package_that_cannot_be_used_is_named(package, code, entry, words):
    package("lab", workloads.GROUP, code, spectra=entry)
    with pytest.raises(BadValue, match=words):
        load_workload("spectra")


def test_two_packages_with_one_name_are_told_apart_by_uninstalling_one(package):
    package("lab", workloads.GROUP, WORKS, spectra="Mine")
    package("other", workloads.GROUP, WORKS, spectra="Mine")
    with pytest.raises(BadValue, match="packages (lab and other|other and lab) both bring a workload 'spectra'"):
        load_workload("spectra")


def test_an_unknown_name_is_still_unknown(package):
    package("lab", workloads.GROUP, WORKS, spectra="Mine")
    with pytest.raises(UnknownName, match="did you mean 'spectra'"):
        load_workload("spectre")
