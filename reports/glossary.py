"""The words of a report, each in one or two sentences."""

from __future__ import annotations

FLAGS: dict[str, str] = {
    "contended": "other work on the machine disturbed the process while it was timed",
    "noisy": "more than 30 % of the case's processes were contended: read the interval with care",
    "heavy_tail": "mean and median time differ by more than 5 %: some steps take much longer than most",
    "warmup_unstable": "times had not settled when the warm-up reached its limit",
    "converged_false": "the interval was still wider than asked for when the time for the case was up",
    "indicative": "few processes: good for finding one's way, not for a decision or a publication",
}

PROVENANCE: dict[str, str] = {
    "measured": "timed here, on the device named",
    "estimated": "computed from other measured figures; drawn with open markers",
    "modelled": "computed by a model of a device that was not there; drawn with open markers",
    "emulated": "run by software that stands in for the device; its time is not the device's; drawn with open markers",
    "published": "taken from a paper; nothing of it was run here",
}

OPEN = frozenset({"modelled", "estimated", "emulated"})  # drawn with open markers, because nothing was timed

STATUS: dict[str, str] = {
    "capacity": "does not fit in memory; a result, not a fault",
    "unsupported": "the device or framework has no way to run this; a result, not a fault",
    "unavailable": "no such device, package or input here",
    "invalid": "ran, but its numbers failed the workload's check, so its times do not count",
    "timeout": "the process gave no answer in time and was ended",
    "crash": "the process ended without a word",
    "error": "the process raised something unforeseen",
    "skipped": "planned, not tried",
}

TERMS: dict[str, str] = {
    "case": "one workload, variant, mode, framework, device, precision, size and batch size",
    "item": "the unit of work of a workload, such as one image; throughput is items per second",
    "batch": "items that one step handles at once",
    "step": "one pass over one batch; in training with its update of the weights",
    "sample": "one timed block of steps",
    "burst": "several samples taken in one go, before another process has its turn",
    "process": "a run of the case in its own process; the unit of evidence, because samples of one process hardly "
    "differ while processes do",
    "interval": "95 % interval over processes: Student's t on the logarithms of the processes' median times. Without a "
    "second process there is none",
    "warm": "the process was forked from a server that had imported the framework; its import time is the server's",
    "cold": "the process was a fresh interpreter",
    "peak memory": "largest of the processes' peaks; 1 MB is 10^6 bytes, 1 GB 10^9 bytes",
    "quality": "how good a model is on items it was not trained on, after a fixed budget of training or, where nothing "
    "is trained, as it is",
    "time to quality": "training time until the figure that decides met its target; importing, building, compiling, "
    "the first step and the looks at the model are not in it",
    "NLL": "negative log-likelihood: mean of minus the logarithm of the density that the model gives to the truth",
    "RMSE": "root mean square error",
    "coverage": "share of true values within one (68) or two (95) predicted standard deviations; a model that knows "
    "its errors has 68 and 95 %",
    "KS": "Kolmogorov-Smirnov distance: the largest difference between two samples' cumulative distributions, 0 to 1",
    "n/a": "not known; never zero",
}


def explain(flag: str) -> str:
    """Return "noisy: more than 30 % ..."; a flag without an entry stands as it is."""
    return f"{flag}: {FLAGS[flag]}" if flag in FLAGS else flag
