"""``siderostat calibrate``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from siderostat.errors import DONE, BadValue, RunFolderError
from siderostat.files import write_atomically

if TYPE_CHECKING:
    from siderostat.calibration import Fit, Residual


def main(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Fit the parameters of the chip models anew, or measure this machine's processor as a chip to simulate."""
    if arguments.what == "cpu":
        return _measure_cpu(arguments)
    if arguments.threads is not None:
        raise BadValue("--threads belongs to 'siderostat calibrate cpu'")
    return _fit(arguments)


def _measure_cpu(arguments: argparse.Namespace) -> int:
    from siderostat import rooflines
    from siderostat.devices.cpu import usable_cores

    path = Path(arguments.output or "cpu.toml")
    if path.suffix != ".toml" or not path.parent.is_dir():
        raise BadValue(f"-o {path}: name a file that ends in .toml, in a folder that is there")
    threads = usable_cores() if arguments.threads is None else arguments.threads
    if threads < 1:
        raise BadValue(f"--threads: at least 1, not {threads}")
    found = rooflines.measure(threads)
    print(f"{found.title}, with torch {found.torch}: value, and the factor within which 68 % of its repeats lie.")
    for figure in found.figures:
        print(f"  {figure.key}: {figure.value:.4g}, {figure.spread:.3g} ({figure.source})")
    for sentence in found.disturbances:
        print(sentence)
    try:
        write_atomically(path, found.to_toml())
    except OSError as error:
        raise RunFolderError(f"cannot write {path}: {error.strerror}; choose another file with -o") from error
    print(f"{path}: use it as sim:{path}")
    return DONE


def _fit(arguments: argparse.Namespace) -> int:
    try:
        from siderostat import calibration
    except ModuleNotFoundError as error:
        raise BadValue(
            f"this needs the package {error.name}; install what it takes with: pip install 'siderostat[standard]'"
        ) from None
    found = calibration.fit()
    print("Parameters: as fitted now, as they come along, and what they were fitted on.")
    for fit in found.fits:
        print(_fit_line(fit))
    print("Published figures: published, modelled, error; whether they were fitted on, held out, or are checks only.")
    for residual in calibration.residuals(found):
        print(_residual_line(residual))
    if arguments.output:
        folder = Path(arguments.output)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            written = calibration.write(found, folder)
        except OSError as error:
            raise RunFolderError(
                f"cannot write to {folder}: {error.strerror}; choose another folder with -o"
            ) from error
        for path in written:
            print(path)
    return DONE


def _fit_line(fit: Fit) -> str:
    return f"  {fit.file}: {fit.key} {fit.value:.4g} ({fit.shipped:.4g}), on {fit.on}"


def _residual_line(residual: Residual) -> str:
    published = "n/a" if residual.published is None else f"{residual.published:.3f}"
    modelled = "n/a" if residual.modelled is None else f"{residual.modelled:.3f}"
    error = "n/a" if residual.error is None else f"{residual.error:+.1%}"
    note = f" ({residual.note})" if residual.note else ""
    return f"  {residual.what}: {published}, {modelled} {residual.unit}, {error}, {residual.role}{note}"
