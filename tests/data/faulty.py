"""Workloads that behave badly, each in one way, and one that is well."""

from __future__ import annotations

import os
import signal
import time

import numpy as np

from siderostat.workloads.base import (
    BadInput,
    Exam,
    Feed,
    Findings,
    Goal,
    Phase,
    Size,
    Step,
    Workload,
    WrongResult,
)


class Well(Workload):
    """Sleeps for a millisecond a step."""

    title = "well"
    item = "thing"
    modes = ("infer",)
    frameworks = ("numpy",)
    variants = {"only": {"small": Size(0, 0)}}
    batches = (1, 2)

    def build(self, spec):
        return Step("numpy", [Phase(self.step, Feed([np.ones(64)], spec.batch, spec.seed))], spec.batch)

    def step(self, x):
        time.sleep(1e-3)
        return (x,)

    def check(self, spec, outputs):
        return {"sum": float(outputs[0].sum())}


class Hangs(Well):
    def step(self, x):
        time.sleep(3600)


class Killed(Well):
    def step(self, x):
        os.kill(os.getpid(), signal.SIGKILL)


class Exits(Well):
    def step(self, x):
        os._exit(7)


class Raises(Well):
    def step(self, x):
        raise ZeroDivisionError("a step divides by zero")


class EatsMemory(Well):
    def step(self, x):
        held = []
        while True:
            held.append(np.ones(8_000_000))


class Wrong(Well):
    def check(self, spec, outputs):
        raise WrongResult("the sum is off by 3")


class NotFinite(Well):
    def check(self, spec, outputs):
        return {"loss": float("nan")}


class NeedsPackage(Well):
    def build(self, spec):
        import a_package_that_is_not_there

        return a_package_that_is_not_there


class NoInput(Well):
    def build(self, spec):
        raise BadInput("the file is empty; make it again")


class PartsFail(Well):
    def parts(self, spec):
        return 4

    def make_part(self, spec, part):
        if part == 2:
            raise BadInput("part 2 cannot be made: the catalogue has no column 'mag'")


class AllPartsFail(PartsFail):
    def make_part(self, spec, part):
        raise BadInput(f"part {part} cannot be made: the catalogue has no column 'mag'")


class ClosesItsSocketAndStays(Well):
    def step(self, x):
        os.closerange(3, 256)
        time.sleep(3600)


class DiesLate(Well):
    """Measures some bursts, then is gone."""

    started = None

    def step(self, x):
        self.started = self.started or time.monotonic()
        if time.monotonic() - self.started > 1.5:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(1e-3)
        return (x,)


class Unsteady(Well):
    """Gets slower and slower, so that warm-up never ends by itself."""

    sleep_s = 1e-3

    def step(self, x):
        self.sleep_s *= 1.01
        time.sleep(self.sleep_s)
        return (x,)


class Learns(Well):
    """Its error is 1 / (1 + steps), whatever it is shown."""

    modes = ("train", "sample")
    least = 0.0

    def goal(self, variant, mode):
        return Goal("error", 0.1, budget=40 if mode == "train" else 0, every=6, batch=2, options={})

    def build(self, spec):
        self.steps = 0
        return super().build(spec)

    def step(self, x):
        self.steps += 1
        return (x,)

    def exam(self, spec, step):
        self.exams = getattr(self, "exams", 0) + 1
        return Exam(lambda x: (x + self.exams,), [(np.zeros(2),), (np.ones(2),)], self.judge)

    def judge(self, outputs):
        assert [o[0].tolist() for o in outputs] == [[1, 1], [2, 2]]  # one exam, made once, called with every batch
        error = max(self.least, 1 / (1 + self.steps))
        return Findings(
            {"error": error, "steps": self.steps},
            {"x": ([0.0, 1.0], [0.5, 0.75])},
            {"shades": np.full((3, 2, 2, 3), 7, np.uint8)},
        )


class LearnsNotEnough(Learns):
    least = 0.2


class DiesLearning(Learns):
    def step(self, x):
        if self.steps == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(x)


class LearnsNonsense(Learns):
    def judge(self, outputs):
        return Findings({"error": float("nan")})
