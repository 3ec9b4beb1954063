"""The halo catalogue: the right number of halos, where the matter is, with the right galaxies; always the same."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest

from siderostat.workloads.base import BadInput
from siderostat.workloads.halo_grids import catalogue, cosmology, galaxies, halos, smf

pytest.importorskip("colossus")
BOX, MESH, VPEAK = 200.0, 128, 150.0
LEAST = 1e11  # Msun/h
REALISATIONS = 3


@pytest.fixture(scope="module")
def tables():
    return cosmology.tables(LEAST)


@pytest.fixture(scope="module")
def made():
    return halos.make(0, BOX, MESH, VPEAK)


def _draw(tables, seed):
    """Matter, masses and places of hosts before anything is cut."""
    from siderostat.workloads.halo_grids.field import LinearField

    rng = np.random.default_rng(seed)
    field = LinearField(rng, BOX, MESH, tables.wave_number, tables.power)
    mass = halos._masses(rng, tables, BOX)
    return field, mass, halos._places(rng, tables, field, mass)


@pytest.fixture(scope="module")
def drawn(tables):
    return [_draw(tables, seed) for seed in range(REALISATIONS)]


def test_each_bin_of_mass_has_the_halos_of_tinker_2008_within_5_per_cent(tables, drawn):
    from colossus.cosmology import cosmology as colossus
    from colossus.lss import mass_function

    # Once more from colossus itself, on other masses and by another integral.
    colossus.setCosmology("again", params=cosmology._parameters(), persistence="")
    edges = np.logspace(11, 14, 13)
    counts = sum(np.histogram(mass, edges)[0] for _, mass, _ in drawn)
    for low, high, count in zip(edges[:-1], edges[1:], counts):
        mass = np.logspace(np.log10(low), np.log10(high), 101)
        density = mass_function.massFunction(mass, 0.0, mdef="vir", model="tinker08", q_out="dndlnM")
        expected = np.trapezoid(density, np.log(mass)) * BOX**3 * REALISATIONS
        assert abs(count / expected - 1) < 0.05 + 3 / np.sqrt(expected)
        if expected > 1e4:  # here sampling leaves nothing to hide behind
            assert abs(count / expected - 1) < 0.05


def _density(position, mesh):
    """Cloud-in-cell overdensity."""
    scaled = position.astype(np.float64) * (mesh / BOX) - 0.5
    low = np.floor(scaled).astype(int)
    part = scaled - low
    total = np.zeros(mesh**3)
    for corner in itertools.product((0, 1), repeat=3):
        x, y, z = ((low + corner) % mesh).T
        weight = np.where(corner, part, 1 - part).prod(1)
        total += np.bincount((x * mesh + y) * mesh + z, weight, mesh**3)
    return total.reshape((mesh,) * 3) / total.mean() - 1


def _moved_matter(field):
    grid = np.stack(np.meshgrid(*[np.arange(MESH)] * 3, indexing="ij"), -1).reshape(-1, 3) + 0.5
    moved = [field.displacement(axis).ravel() for axis in range(3)]
    return np.mod(grid * (BOX / MESH) + np.stack(moved, 1), BOX)


@pytest.fixture(scope="module")
def spectra(tables, drawn):
    """By range of mass: Tinker's bias, and that of the halos against the matter by range of wave number."""
    mesh = 64
    k = 2 * np.pi * np.fft.fftfreq(mesh, BOX / mesh)
    size = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k[: mesh // 2 + 1] ** 2)
    ranges = [(0.03, 0.1), (0.1, 0.15), (0.15, 0.2)]
    shells = [(size > low) & (size < high) for low, high in ranges]
    matter = [np.fft.rfftn(_density(_moved_matter(field), mesh)) for field, _, _ in drawn]
    found = {}
    for low, high in ((11.0, 11.7), (11.7, 12.4), (12.4, 13.0), (13.0, 14.0)):
        cross, auto, tinker = np.zeros(3), np.zeros(3), []
        for waves, (_, mass, place) in zip(matter, drawn):
            chosen = (mass > 10**low) & (mass < 10**high)
            tinker.append(np.interp(np.log(mass[chosen]), tables.log_mass, tables.bias).mean())
            halo_waves = np.fft.rfftn(_density(place[chosen], mesh))
            cross += [(waves.conj() * halo_waves).real[shell].sum() for shell in shells]
            auto += [(np.abs(waves) ** 2)[shell].sum() for shell in shells]
        found[low, high] = np.mean(tinker), cross / auto
    return found


def test_halos_cluster_with_the_bias_of_tinker_2010_within_8_per_cent(spectra):
    """Cross-correlation with the moved matter, in three ranges of k up to 0.2 h/Mpc and four of mass.

    Scatter between realisations is some 3 % of the bias in a range of k for the heaviest.
    """
    for (low, high), (tinker, measured) in spectra.items():
        assert np.abs(measured / tinker - 1).max() < 0.08, (low, high, tinker, measured)
        assert abs(measured.mean() / tinker - 1) < 0.05, (low, high, tinker, measured)


def test_heavier_halos_cluster_more_strongly(spectra):
    biases = [measured.mean() for _, measured in spectra.values()]
    assert biases == sorted(biases) and biases[-1] > 1.5 * biases[0]


def test_matter_has_the_linear_power_spectrum_at_large_scales(tables, drawn):
    field = drawn[0][0]
    mesh = 32
    waves = np.fft.rfftn(field.smoothed(mesh, 0.0))
    k = 2 * np.pi * np.fft.fftfreq(mesh, BOX / mesh)
    size = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k[: mesh // 2 + 1] ** 2)
    shell = (size > 0.1) & (size < 0.4)  # some 10,000 waves
    power = np.abs(waves[shell]) ** 2 * BOX**3 / mesh**6
    expected = np.interp(size[shell], tables.wave_number, tables.power)
    assert (power / expected).mean() == pytest.approx(1, abs=0.05)


def test_displacements_are_the_gradient_that_belongs_to_the_density(drawn):
    field = drawn[0][0]
    k = 2 * np.pi * np.fft.fftfreq(MESH, BOX / MESH)
    k[MESH // 2] = 0
    along = [k[:, None, None], k[:, None], k[: MESH // 2 + 1]]
    moved = sum(1j * a * np.fft.rfftn(field.displacement(axis)) for axis, a in enumerate(along))
    density = field.smoothed(MESH, 0.0)
    without_highest = np.fft.rfftn(density)
    for axis in range(3):
        np.moveaxis(without_highest, axis, 0)[MESH // 2] = 0
        np.moveaxis(moved, axis, 0)[MESH // 2] = 0
    difference = np.fft.irfftn(-moved - without_highest, s=density.shape, axes=(0, 1, 2))
    assert np.abs(difference).max() < 1e-3 * density.std()


def test_the_stellar_mass_function_is_that_of_moustakas_within_30_per_cent(made):
    """Nothing is tuned to it. At 10.2 halos below the least velocity are lacking; the brightest bins have scatter."""
    measured = smf.measured()
    volume_mpc3 = (BOX / cosmology.HUBBLE) ** 3
    counts = np.histogram(made.log_stellar_mass, np.append(measured.low, measured.high[-1]))[0]
    phi = counts / volume_mpc3 / smf.BIN_DEX
    used = (measured.low > 10.25) & (measured.high < 11.45)
    assert used.sum() == 11
    assert np.abs(phi / measured.phi - 1)[used].max() < 0.3
    knee = (measured.low > 10.35) & (measured.high < 10.95)
    assert np.abs(phi / measured.phi - 1)[knee].max() < 0.15


def test_about_a_fifth_are_subhalos_and_they_lie_in_their_hosts(made):
    assert 0.17 < made.is_subhalo.mean() < 0.27
    row = {identifier: i for i, identifier in enumerate(made.identifier)}
    pairs = [(i, row[host]) for i, host in enumerate(made.host) if host in row]
    subhalo, host = np.array(pairs).T
    assert len(pairs) > 0.95 * made.is_subhalo.sum()
    apart = np.abs(made.position[subhalo] - made.position[host])
    apart = np.linalg.norm(np.minimum(apart, BOX - apart), axis=1)
    virial = cosmology.lagrangian_radius(made.peak_mass[host]) / cosmology.virial_overdensity() ** (1 / 3)
    assert (apart < 1.001 * virial).all()
    assert (made.peak_mass[subhalo] < made.peak_mass[host]).all()
    assert (made.mass[subhalo] <= made.peak_mass[subhalo]).all()
    assert not made.is_subhalo[host].any()


def test_subhalos_follow_the_unevolved_mass_function_of_jiang_and_van_den_bosch():
    host = np.full(20_000, 1e14)
    _, mass = halos._subhalos(np.random.default_rng(0), host, 1e11)
    ratio = np.logspace(-3, 0, 2001)
    middle = np.sqrt(ratio[1:] * ratio[:-1])
    density = 0.22 * middle**-0.91 * np.exp(-6 * middle**3) * np.diff(np.log(ratio))
    for low in (0.001, 0.01, 0.1):
        expected = halos.SURVIVING * len(host) * density[middle > low].sum()
        assert (mass > low * 1e14).sum() == pytest.approx(expected, rel=0.02 + 4 / np.sqrt(expected))


def test_constants_are_those_of_the_papers():
    """As public codes and colossus have them: Behroozi et al. (2019) E2 and J1, Dutton & Maccio (2014)."""
    from colossus.cosmology import cosmology as colossus
    from colossus.halo import concentration

    assert pytest.approx(1.567e12, rel=1e-3) == galaxies.VELOCITY_MASS
    assert galaxies.peak_velocity(np.array([galaxies.VELOCITY_MASS, 8e12]))[0] == pytest.approx(200)
    public = (-1.434595, 12.03538, 1.963342, 0.481788, 0.410851, 10**-1.034197)
    ours = (galaxies.EFFICIENCY, galaxies.CHARACTERISTIC_MASS, galaxies.FAINT_SLOPE, galaxies.BRIGHT_SLOPE)
    assert (*ours, galaxies.BUMP_WIDTH, galaxies.BUMP_HEIGHT) == pytest.approx(public, rel=2e-3)
    colossus.setCosmology("planck13", persistence="")  # what Dutton and Maccio simulated
    mass = np.array([1e11, 1e12, 1e14])
    expected = concentration.concentration(mass, "vir", 0.0, model="dutton14")
    assert 10 ** (halos.CONCENTRATION + halos.CONCENTRATION_SLOPE * np.log10(mass / 1e12)) == pytest.approx(
        expected, rel=1e-2
    )


def test_the_relation_of_velocity_and_stellar_mass_goes_through_halo_mass():
    """A halo of 10^12 Msun has 2.0 % of its mass in stars, near the most there is."""
    mass = 10.0 ** np.array([11.5, 12.0, 13.5])
    share = 10 ** galaxies.log_stellar_mass(galaxies.peak_velocity(mass)) / mass
    assert share[1] == pytest.approx(0.0204, abs=0.003)
    assert share[1] > 1.5 * share[0] and share[1] > 1.5 * share[2]
    assert galaxies.mass_at(galaxies.peak_velocity(mass)) == pytest.approx(mass)


def test_half_of_the_mass_is_there_later_in_heavier_halos(made):
    light = made.half_mass_scale[made.peak_mass < 1e12]
    heavy = made.half_mass_scale[made.peak_mass > 1e13]
    assert 0.35 < np.median(light) < np.median(heavy) < 0.75
    assert made.half_mass_scale.min() > 0 and made.half_mass_scale.max() <= 1


def test_spins_are_log_normal(made):
    assert np.median(made.spin) == pytest.approx(0.035, rel=0.02)
    assert np.log(made.spin).std() == pytest.approx(0.5, rel=0.02)


def test_the_same_seed_makes_the_same_halos_and_another_makes_others(made):
    again, other = halos.make(0, BOX, MESH, VPEAK), halos.make(1, BOX, MESH, VPEAK)
    for field in fields(made):
        assert np.array_equal(getattr(made, field.name), getattr(again, field.name)), field.name
    assert len(other) != len(made)


def test_halos_are_in_the_box_and_fast_enough(made):
    assert made.position.min() >= 0 and made.position.max() < BOX
    assert made.peak_velocity.min() > VPEAK
    assert 0.008 < len(made) / BOX**3 < 0.02  # 0.0135 in 250 Mpc/h
    for field in fields(made)[1:]:
        assert np.isfinite(getattr(made, field.name)).all(), field.name


def test_a_lower_limit_adds_halos_and_keeps_the_abundance_of_the_others():
    few, many = (halos.make(3, 100.0, 64, limit) for limit in (200.0, 120.0))
    shared = (many.peak_velocity > 200).sum()
    assert len(many) > 2.5 * len(few)
    assert shared == pytest.approx(len(few), abs=4 * np.sqrt(2 * len(few)))


def test_colossus_leaves_no_files_and_keeps_another_cosmology(tmp_path):
    code = (
        "from colossus.cosmology import cosmology as c; c.setCosmology('planck18', persistence='');"
        "from siderostat.workloads.halo_grids import cosmology as ours; ours.tables(1e12); print(c.getCurrent().name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "planck18"
    assert not list(tmp_path.iterdir())


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SIDEROSTAT_CACHE", str(tmp_path))
    return tmp_path


SMALL = (0, 50.0, 32, 150.0)


def test_a_catalogue_is_made_once_and_then_read(cache, monkeypatch):
    first = catalogue.catalogue(*SMALL)
    monkeypatch.setattr(halos, "make", None)
    again = catalogue.catalogue(*SMALL)
    for field in fields(first):
        assert np.array_equal(getattr(first, field.name), getattr(again, field.name))
    assert isinstance(again.box_mpc_h, float)


def test_an_interrupted_or_damaged_catalogue_is_made_again(cache):
    first = catalogue.catalogue(*SMALL)
    path = catalogue.file_of(*SMALL)
    left_over = path.with_name(path.name + ".12345.tmp")
    left_over.write_bytes(b"half a catalogue")
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole[:5000] + b"\x00\xff" + whole[5002:], b"something else"):
        path.write_bytes(damaged)
        assert np.array_equal(catalogue.catalogue(*SMALL).position, first.position)
        assert path.read_bytes()[:2] == b"PK"
    assert not left_over.exists()


def test_catalogues_that_differ_lie_apart(cache, monkeypatch):
    files = [catalogue.file_of(*SMALL)]
    for place, value in enumerate((1, 75.0, 36, 160.0)):
        files.append(catalogue.file_of(*SMALL[:place], value, *SMALL[place + 1 :]))
    for module, name in ((halos, "VERSION"), (halos, "SURVIVING"), (cosmology, "SIGMA_8"), (galaxies, "FAINT_SLOPE")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, 7)
            files.append(catalogue.file_of(*SMALL))
    assert len(set(files)) == len(files)


def test_a_cache_that_cannot_be_written_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SIDEROSTAT_CACHE", str(tmp_path / "file"))
    with pytest.raises(BadInput, match="cannot write halo catalogues.*SIDEROSTAT_CACHE"):
        catalogue.catalogue(*SMALL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 50.0, 32, 150.0), "seed"),
        ((0, 50.0, 30, 150.0), "multiple of 4"),
        ((0, -1.0, 32, 150.0), "side of the box"),
        ((0, 50.0, 32, 5.0), "vpeak_min"),
        ((0, 50.0, 32, float("nan")), "vpeak_min"),
    ],
)
def test_what_no_catalogue_can_be_made_of_is_refused(cache, arguments, message):
    with pytest.raises(BadInput, match=message):
        catalogue.catalogue(*arguments)
