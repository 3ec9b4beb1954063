"""What public packages compute that the gauge flow computes too, against our own functions for the same, outputs compared.

An argument names a Python in which such packages are installed, apart from this environment, since they pin others:

    python3.10 -m venv peers && peers/bin/pip install torch numpy hydra-core && peers/bin/pip install --no-deps l2hmc
    python gauge_peers.py peers/bin/python

l2hmc 0.13 asks for MPI, Horovod and TensorFlow, which the functions compared here do not use; hence --no-deps. Its lattice
cannot be imported by Python 3.11 or newer (dataclasses with mutable defaults). What is not there is reported as such.
The figures are processor time on one thread, in double precision, the median of rounds that take turns within a process;
ours and theirs run in processes of their own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from siderostat.workloads.gauge_flow import complex as reference
from siderostat.workloads.gauge_flow import group, pairs, real

EXTENTS = (4, 4, 4, 4)
BATCH = 16
BETA = 5.6
ROUNDS = 9
AGREEMENT = 1e-9

NOT_COMPARABLE = {
    "l2hmc, its networks": "propose moves of molecular dynamics; they are no flow with spectral couplings",
    "l2hmc, force": "ours has no force of its own: training differentiates the whole flow",
    "normflow (PyPI)": "general normalizing flows for numbers; shares but the name with the lattice package",
    "normflow (GitHub, jkomijani)": "a flow of SU(3) in four dimensions by singular values (arXiv:2501.18288), not by "
    "spectral couplings: times would compare two flows and not two programs of one; not on PyPI",
    "nthmc (GitHub, nftqcd)": "field transformations in TensorFlow for HMC; not on PyPI and no package to install",
}

# Runs under the other interpreter: reads fields, writes results, prints seconds of each quantity or why there is none.
PEER = """
import json, sys, time
import numpy as np, torch
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
fields = np.load(sys.argv[1])
links, staples = (torch.from_numpy(fields[name]) for name in ("links", "staples"))
beta, rounds = float(sys.argv[3]), int(sys.argv[4])
found, results = {}, {}

def action():
    from l2hmc.lattice.su3.pytorch.lattice import LatticeSU3
    lattice = LatticeSU3(len(links), list(links.shape[2:6]))
    return lambda: lattice.action(links, torch.tensor(beta))

def projection():
    from l2hmc.group.su3.pytorch.utils import projectSU
    return lambda: projectSU(staples)

for name, make in (("plaquette action", action), ("projection to SU(3)", projection)):
    try:
        compute = make()
    except Exception as error:
        found[name] = {"missing": f"{type(error).__name__}: {error}".splitlines()[0]}
        continue
    seconds = []
    with torch.no_grad():
        for _ in range(rounds):
            start = time.process_time()
            results[name.split()[0]] = compute().numpy()
            seconds.append(time.process_time() - start)
    found[name] = {"seconds": seconds}
np.savez(sys.argv[2], **results)
print(json.dumps(found))
"""


def make_fields() -> dict[str, np.ndarray]:
    """Return gauge fields and staples of them, whose projection is wanted, complex128."""
    links = group.haar(np.random.default_rng(0), (BATCH, 4, *EXTENTS))
    field = torch.from_numpy(links)
    return {
        "links": links,
        "staples": reference.upper_staple(field[:, 0], field[:, 1], 0, 1).numpy() + 0.5 * links[:, 0],
    }


def own(fields: dict[str, np.ndarray]) -> dict[str, dict[str, Callable[[], Tensor]]]:
    """Return our functions of each quantity, by formulation."""
    links, staples = (torch.from_numpy(fields[name]) for name in ("links", "staples"))
    as_pairs = torch.view_as_real(staples.flatten(0, 4)).permute(3, 1, 2, 0)[..., None].contiguous()
    flow = real.flow(EXTENTS, [], [])
    return {
        "plaquette action": {
            "complex": lambda: reference.action(links, BETA),
            "real": lambda: flow.action(torch.view_as_real(links), BETA),
        },
        "projection to SU(3)": {
            "complex": lambda: reference.projected(staples),
            "real": lambda: _as_complex(pairs.projected(as_pairs), staples),
        },
    }


def _as_complex(matrices: Tensor, like: Tensor) -> Tensor:
    return torch.view_as_complex(matrices[..., 0].permute(3, 1, 2, 0).contiguous()).view(like.shape)


def seconds_of(compute: Callable[[], Tensor]) -> tuple[float, np.ndarray]:
    """Return the median of the processor seconds, and the result."""
    taken = []
    with torch.inference_mode():
        for _ in range(ROUNDS):
            start = time.process_time()
            result = compute()
            taken.append(time.process_time() - start)
    return statistics.median(taken), result.numpy()


def ask(python: str, fields: dict[str, np.ndarray]) -> tuple[dict[str, dict[str, object]], dict[str, np.ndarray]]:
    """Return what the packages of another interpreter said, and their results."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "fields.npz", Path(folder) / "results.npz"
        np.savez(given, **fields)
        command = [python, "-c", PEER, str(given), str(made), str(BETA), str(ROUNDS)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if ended.returncode:
            last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
            return {}, {"": np.array(last)}
        with np.load(made) as results:
            return json.loads(ended.stdout.splitlines()[-1]), dict(results)


def main() -> None:
    """Print the table; exit 1 if a result of another package differs from ours."""
    torch.set_num_threads(1)
    python = sys.argv[1] if len(sys.argv) > 1 else sys.executable
    fields = make_fields()
    told, results = ask(python, fields)
    if not told:
        print(f"{python} cannot be asked: {results['']}")
    differing = []
    for quantity, formulations in own(fields).items():
        answer = told.get(quantity, {"missing": "no answer"})
        for name, compute in formulations.items():
            ours_s, ours = seconds_of(compute)
            line = f"{quantity:20s} {name:8s} {ours_s * 1e3:8.2f} ms"
            if "missing" in answer:
                print(f"{line}; l2hmc is not there: {answer['missing']}")
                continue
            theirs_s = statistics.median(answer["seconds"])
            off = float(np.abs(results[quantity.split()[0]] - ours).max() / np.abs(ours).max())
            print(
                f"{line}; l2hmc {theirs_s * 1e3:8.2f} ms, {theirs_s / ours_s:5.1f} x ours; results differ by {off:.1e}"
            )
            differing += [f"{quantity} in {name} by {off:.1e}"] if off > AGREEMENT else []
    print("\nnot comparable:")
    for name, why in NOT_COMPARABLE.items():
        print(f"  {name}: {why}")
    if differing:
        sys.exit(f"results differ: {'; '.join(differing)}")


if __name__ == "__main__":
    main()
