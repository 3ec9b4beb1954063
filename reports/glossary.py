"""The words of a report, each in one or two sentences."""

from __future__ import annotations

FLAGS: dict[str, str] = {
    "contended": "other work on the machine disturbed the process while it was timed",
    "noisy": "more than 30 % of the case's processes were contended: read the interval with care",
    "heavy_tail": "mean and median time differ by more than 5 %: some steps take much longer than most",
    "warmup_unstable": "times had not settled when the warm-up reached its limit",
    "clocks_differ": "the two sides were timed by different clocks, such as the host's and a model's",
    "converged_false": "the interval was still wider than asked for when the time for the case was up",
    "throttled": "the device held its clock down in all tries of a burst",
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

ENERGY: dict[str, str] = {
    "ok": "the meter was updated at least 100 times in each window",
    "indicative": "the meter was updated at least 20 times in each window, or there are too few windows",
    "too_short": "the meter was updated too rarely in the window to tell its energy",
    "no_permission": "the counter is there and may not be read",
    "unsupported": "there is no meter, or it does not tell the energy of this",
    "counter_reset": "the meter's counter went back",
    "stale_counter": "the meter stood still, or could no longer be read",
    "shared_device": "another process computed on the device, and the meter cannot tell whose energy it was",
    "inconsistent": "two sensors of the device differ by more than 10 %",
    "implausible": "the figure is above what the device can draw",
    "below_idle_noise": "what is left above the idle device cannot be told from nothing",
    "not_measurable": "the device is simulated: nothing drew power",
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
    "ratio": "how many times as many items per second one side handles as its reference; above 1 it is the faster",
    "pair": "processes of all sides of a comparison, alive and warm together",
    "lock-step": "the bursts of a pair take turns, in an order shuffled anew each turn, so that what disturbs the "
    "machine hits all sides alike; each pair gives one figure, the mean over turns of the logarithm of the ratio",
    "unpaired": "the sides were measured at different times or on different machines: the interval, by Welch, covers "
    "differences between processes, and nothing that changed in between",
    "best batch": "the batch at which a side handles most items per second; the best of several noisy figures is on "
    "average too good, on either side",
    "task": "one workload, variant and mode",
    "interval": "95 % interval over processes: Student's t on the logarithms of the processes' median times. Without a "
    "second process there is none",
    "warm": "the process was forked from a server that had imported the framework; its import time is the server's",
    "cold": "the process was a fresh interpreter",
    "peak memory": "largest of the processes' peaks; 1 MB is 10^6 bytes, 1 GB 10^9 bytes",
    "energy window": "a burst whose energy a meter told; the energy per item is the mean over the windows. Its "
    "interval is the larger of that over windows and that over processes, with 5 % added in quadrature that the meter "
    "may be off by as a whole",
    "net energy": "energy above what the idle device would have drawn in the same time; its idle power is read before "
    "and after",
    "scope": "what a meter encloses: the board of a GPU, the package of a processor, memory, the whole node. Figures "
    "of different scope are not ranked",
    "grade of energy": "indicative: 20 updates of the meter in each window; publishable: 100; procurement: 100, and "
    "windows of at least 60 s",
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
