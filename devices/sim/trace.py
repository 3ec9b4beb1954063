"""From a step to its operations, whatever the framework."""

from __future__ import annotations

import hashlib
import json
from typing import Mapping

from siderostat.devices.base import Unsupported
from siderostat.devices.sim.opgraph import SCHEMA, OpGraph
from siderostat.workloads.base import Spec, Step


def trace(step: Step) -> OpGraph:
    """Return the operations of one step without computing them.

    Raises:
        Unsupported: if its framework keeps no account of operations, or what it computes depends on values.
    """
    if step.framework == "torch":
        from siderostat.devices.sim import trace_torch

        return trace_torch.trace(step)
    if step.framework == "tensorflow":
        from siderostat.devices.sim import trace_tensorflow

        return trace_tensorflow.trace(step)
    raise Unsupported(f"a step of {step.framework} cannot be traced: only torch and tensorflow tell what they compute")


def cache_key(workload: str, spec: Spec, versions: Mapping[str, str]) -> str:
    """Return sixteen hex digits that stand for all that a trace depends on; the seed is no part of it.

    Args:
        workload: its name; of a user's file, its path and class, whose text must be among ``versions``.
        spec: what the step is built from.
        versions: of siderostat, the framework and whatever else the operations depend on.
    """
    parts = [SCHEMA, workload, spec.variant, spec.mode, spec.framework, spec.size, spec.batch]
    text = json.dumps([*parts, dict(spec.options), dict(versions)], sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
