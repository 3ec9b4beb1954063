"""The Triton kernel in Triton's interpreter, on a processor, against the real formulation; it has no GPU to run on."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from siderostat import devices, workloads
from siderostat.devices.base import Unsupported
from siderostat.workloads.base import Spec

torch = pytest.importorskip("torch")

FUSED = Spec("fused", "evaluate", "torch", 1, "tiny", 0, {})


def _interpreted(code: str) -> str:
    """Return what a program prints in a process of its own, since Triton chooses its interpreter when it is imported."""
    pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.check_output([sys.executable, "-c", textwrap.dedent(code)], text=True, env=environment)


def test_a_level_is_that_of_the_real_formulation_in_both_precisions():
    code = """
        import numpy as np, torch
        from siderostat.workloads.gauge_flow import kernel_triton, lattice, real
        near = lattice.Neighbours((2, 2, 4, 4))
        links = np.random.default_rng(0).choice(4 * near.volume, 20, replace=False)
        found = lattice.staple_table(near, links)
        table = [torch.from_numpy(np.ascontiguousarray(a, np.int32)) for a in (found.own, found.upper, found.lower)]
        torch.manual_seed(0)
        for dtype in (torch.float64, torch.float32):
            for inside, outside, batch in ((1, 8, 3), (2, 1, 2)):
                s = torch.randn(4 * near.volume, inside, 2, 3, 3, batch, dtype=dtype)
                mixing = torch.randn(outside, 7 * inside, dtype=dtype)
                made, plain = kernel_triton.level(s, mixing, *table), real._mixed_staples(s, mixing, table)
                assert made.dtype == dtype and made.shape == plain.shape
                print(((made - plain).abs().max() / plain.abs().max()).item())
    """
    double, single = np.array(_interpreted(code).split(), float).reshape(2, 2)
    assert double.max() < 1e-14
    assert single.max() < 1e-6


def test_a_whole_layer_and_its_gradients_are_those_of_the_real_formulation():
    code = """
        import numpy as np, torch
        from siderostat.workloads.gauge_flow import coupling, group, kernel_triton, lattice, operators
        from siderostat.workloads.gauge_flow import torch as steps
        operators.level = lambda s, mixing, table: kernel_triton.level(s, mixing, *table)
        extents, update = (4, 4, 2, 2), lattice.Direction(0, 1, 2)
        width = coupling.Width(channels=2, hidden=1, context=4, bins=4)
        links = group.haar(np.random.default_rng(1), (2, 4, *extents))
        made = []
        for name in ("real", "fused"):
            flow = steps.make_flow(name, extents, [update], [True], width)
            coupling.load_weights(flow, [coupling.initial(True, np.random.default_rng(2), 0.3, width)])
            inputs = torch.view_as_real(torch.from_numpy(links)).contiguous().requires_grad_()
            moved, log_determinant = flow.double()(inputs)
            (log_determinant.sum() + moved.square().sum((-1, -2, -3))[:, 0, 0].sum() + moved[..., 0, 1, 1].sum()).backward()
            made.append([moved, log_determinant, inputs.grad, *(p.grad for p in flow.parameters())])
        print(max(((a - b).abs().max() / b.abs().max().clamp_min(1)).item() for a, b in zip(*made)))
    """
    assert float(_interpreted(code)) < 1e-10


def test_a_gpu_takes_the_kernels_where_there_is_triton_and_refuses_them_in_a_sentence_where_not(monkeypatch):
    needs = workloads.load("gauge-flow").needs(FUSED)
    cuda = devices.load("cuda")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    cuda.require(needs, "torch")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unsupported, match="install Triton, or use a variant"):
        cuda.require(needs, "torch")
