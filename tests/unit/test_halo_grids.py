"""Sub-boxes, their grids and labels, catalogues by path, and the workload that makes them."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from siderostat.workloads import load
from siderostat.workloads.base import BadInput, Spec, WrongResult
from siderostat.workloads.halo_grids import cosmology, data, galaxies, grids, readers, smf, umml

h5py = pytest.importorskip("h5py")
pytest.importorskip("colossus")
WORKLOAD = load("halo-grids")


@pytest.fixture(scope="module")
def tiny():
    return data.sub_boxes(0, size="tiny")


def test_importing_it_imports_no_framework():
    heavy = "{'torch', 'colossus', 'scipy', 'h5py', 'sklearn', 'numba'}"
    code = f"import siderostat.workloads.halo_grids.data, sys; print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


# Grids and labels


def test_a_cell_has_the_mean_velocity_of_its_halos_and_an_empty_one_has_0():
    position = np.array([[0.2, 0.9, 3.5], [0.8, 0.1, 3.1], [26.0, 1.0, 49.9]], np.float32)
    cells = grids.cell_numbers(position, 2)
    made = grids.fast(cells, np.array([200.0, 300.0, 500.0]), np.array([10.25, 10.75, 11.0]), 8)
    assert made.grids[0, 0, 0, 3] == 250 and made.grids[5, 1, 1, 24] == 500
    assert np.count_nonzero(made.grids) == 2
    assert made.halos.tolist() == [2, 0, 0, 0, 0, 1, 0, 0]


def test_labels_count_cells_with_their_mean_mass_or_galaxies():
    cells, masses = np.array([7, 7, 8]), np.array([10.25, 10.75, 11.6])
    over_cells = grids.labels(cells, masses, 1) * 25**3
    over_galaxies = grids.labels(cells, masses, 1, "galaxies") * 25**3
    assert over_cells[0] == pytest.approx([0, 0, 0, 1, *[0] * 10])  # 10.50 is in the fourth bin; 11.6 in none
    assert over_galaxies[0] == pytest.approx([1, 0, 0, 0, 0, 1, *[0] * 8])


def test_galaxies_without_stars_are_in_no_bin():
    cells = np.array([3, 4])
    assert grids.labels(cells, np.array([-np.inf, 10.55]), 1).sum() * 25**3 == pytest.approx(1)


@pytest.mark.parametrize("counted", grids.COUNTED)
def test_both_ways_make_the_same_grids_and_labels(counted):
    rng = np.random.default_rng(0)
    position = (rng.random((4000, 3)) ** 2 * 50).astype(np.float32)  # crowded corners: many cells with several halos
    velocity, masses = rng.uniform(150, 900, 4000), rng.uniform(10, 12, 4000)
    fast = grids.fast(grids.cell_numbers(position, 2), velocity, masses, 8, counted)
    naive = grids.naive(position, velocity, masses, 2, counted)
    assert np.allclose(fast.grids, naive.grids, rtol=1e-6) and fast.grids.dtype == naive.grids.dtype
    assert np.array_equal(fast.labels, naive.labels)
    assert np.array_equal(fast.halos, naive.halos) and fast.halos.sum() == 4000


def test_no_halos_make_empty_grids():
    none = np.zeros(0)
    made = grids.fast(np.zeros(0, np.int64), none, none, 1)
    assert not made.grids.any() and not made.labels.any() and made.halos.tolist() == [0]


# Sub-boxes


def test_sub_boxes_are_as_promised(tiny):
    assert len(tiny) == 64 and tiny.grids.shape == (64, 25, 25, 25) and tiny.labels.shape == (64, 14)
    assert tiny.grids.dtype == tiny.labels.dtype == tiny.features.dtype == np.float32
    assert tiny.feature_names == data.FEATURES and tiny.features.shape == (len(tiny.cells), 8)
    assert np.isfinite(tiny.features).all()
    velocities = tiny.grids[tiny.grids > 0]
    assert velocities.min() > data.VPEAK_MIN
    assert sorted([*tiny.train, *tiny.validation]) == list(range(64)) and len(tiny.train) == 51


def test_labels_follow_from_the_halos(tiny):
    assert np.array_equal(tiny.labels_of(tiny.log_stellar_mass), tiny.labels)
    heavier = tiny.labels_of(tiny.log_stellar_mass + 0.3)
    assert heavier[:, -1].sum() > 2 * tiny.labels[:, -1].sum()
    box = tiny.box_of_halo
    assert np.array_equal(np.bincount(box, minlength=64) > 0, tiny.grids.any(axis=(1, 2, 3)))


def test_labels_over_galaxies_are_the_stellar_mass_function(tiny):
    """In one unit they are near the measured one; the box of 100 Mpc/h is small and halos below the limit are lacking."""
    over_galaxies = data.sub_boxes(0, size="tiny", counted="galaxies")
    assert over_galaxies.labels.sum() > tiny.labels.sum()
    table = smf.measured()
    phi = table.phi[np.isclose(table.low[:, None], smf.EDGES[:-1]).any(1)]
    ratio = over_galaxies.labels.mean(0) * smf.PHYSICAL / phi
    assert ratio.min() > 0.6 and ratio[:10].max() < 1.5
    assert pytest.approx(0.678**3 / 0.1) == smf.PHYSICAL


def test_sigma_is_the_larger_error_of_the_table():
    sigma = smf.sigma()
    assert sigma.shape == (14,)
    assert (sigma[0], sigma[-1]) == pytest.approx((1.79185e-4, 3.18242e-5), rel=1e-5)
    assert sigma[5] == pytest.approx(1.49169e-4, rel=1e-5)


def test_another_seed_makes_other_boxes_and_the_same_one_the_same(tiny):
    again, other = data.sub_boxes(0, size="tiny"), data.sub_boxes(1, size="tiny")
    assert np.array_equal(again.grids, tiny.grids) and np.array_equal(again.train, tiny.train)
    assert not np.array_equal(other.grids, tiny.grids) and not np.array_equal(other.train, tiny.train)
    assert other.provenance["fingerprint"] != tiny.provenance["fingerprint"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"size": "huge"}, "paper, tiny"), ({"counted": "stars"}, "cells, galaxies"), ({"path": "/no/a.list"}, "no file")],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(BadInput, match=message):
        data.sub_boxes(0, **arguments)


# Catalogues by path

HLIST_NAMES = [
    "scale",
    "id",
    "desc_scale",
    "pid",
    "upid",
    "mvir",
    "rvir",
    "vmax",
    "x",
    "y",
    "z",
    "vx",
    "vy",
    "vz",
    "Spin",
    "Snap_num",
    "Macc",
    "Mpeak",
    "Vacc",
    "Vpeak",
    "Halfmass_Scale",
]
HALOS = 300


@pytest.fixture(scope="module")
def simulated():
    """Values of the halos of a box of 50 Mpc/h, by the names in a hlist."""
    rng = np.random.default_rng(5)
    values = {name: rng.uniform(1, 2, HALOS) for name in HLIST_NAMES}
    values.update({axis: rng.uniform(0, 50, HALOS).round(4) for axis in "xyz"})
    values["x"][0] = 49.9
    values["Vpeak"] = rng.uniform(100, 400, HALOS).round(2)
    values["id"] = np.arange(HALOS) + 1000.0
    values["upid"] = np.where(np.arange(HALOS) % 4 == 0, 1001.0, -1.0)
    return values


def _write_hlist(path, values, header=True):
    names = " ".join(f"{name}({i})" for i, name in enumerate(HLIST_NAMES))
    head = f"#{names}\n#Omega_M = 0.307115; h0 = 0.677700\n#Full box size = 50.000000 Mpc/h\n" if header else ""
    rows = "".join(" ".join(f"{values[name][i]:.6g}" for name in HLIST_NAMES) + "\n" for i in range(HALOS))
    path.write_text(head + rows)
    return path


def _write_universemachine(path, values):
    records = np.zeros(HALOS, readers.UNIVERSE_MACHINE)
    records["id"], records["upid"] = values["id"], values["upid"]
    records["pos"][:, :3] = np.stack([values[axis] for axis in "xyz"], 1)
    records["vmp"], records["mp"], records["m"] = values["Vpeak"], values["Mpeak"], values["mvir"]
    records["obs_sm"] = 10**10.55
    records["obs_sm"][1] = 0
    records["flags"][2] = readers.IGNORED
    path.write_bytes(records.tobytes())
    return path


def _write_halotools(path, values, lacking=()):
    names = {name: "halo_" + name.lower() for name in HLIST_NAMES}
    names["Halfmass_Scale"] = "halo_halfmass_scale_factor"
    kept = {name: column for name, column in names.items() if column not in lacking}
    table = np.zeros(HALOS, [(column, "f8") for column in kept.values()])
    for name, column in kept.items():
        table[column] = values[name]
    with h5py.File(path, "w") as file:
        file["data"] = table
        file.attrs["Lbox"] = 50.0
    return path


WRITERS = {"hlist": (_write_hlist, "a.list"), "um": (_write_universemachine, "a.bin"), "h5": (_write_halotools, "a.h5")}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_catalogue_by_path_gives_sub_boxes(kind, tmp_path, simulated):
    write, name = WRITERS[kind]
    path = write(tmp_path / name, simulated)
    fast = simulated["Vpeak"] > 150
    if kind == "um":
        fast[2] = False
    boxes = data.sub_boxes(0, str(path))
    assert len(boxes) == 8
    place = np.stack([simulated[axis] for axis in "xyz"], 1)[fast].astype(int)
    expected = np.zeros((8, 25, 25, 25))
    number = np.zeros_like(expected)
    box = (place // 25) @ [4, 2, 1]
    np.add.at(expected, (box, *(place % 25).T), simulated["Vpeak"][fast])
    np.add.at(number, (box, *(place % 25).T), 1)
    assert np.allclose(boxes.grids, expected / np.maximum(number, 1), rtol=1e-5)
    facts = boxes.provenance
    assert (facts["rows"], facts["rows_kept"]) == (HALOS, fast.sum())
    assert facts["bytes"] == path.stat().st_size and len(facts["sha256"]) == 64
    json.dumps(facts)


def test_features_of_a_file_are_those_it_has(tmp_path, simulated):
    full = data.sub_boxes(0, str(_write_hlist(tmp_path / "a.list", simulated)))
    assert full.feature_names == data.FEATURES
    fast = simulated["Vpeak"] > 150
    names = ["Mpeak", "Macc", "Vpeak", "Vacc", "Spin", "upid", "mvir", "Halfmass_Scale"]
    assert np.allclose(full.features, np.stack([simulated[name][fast] for name in names], 1), rtol=1e-5)
    universe = data.sub_boxes(0, str(_write_universemachine(tmp_path / "a.bin", simulated)))
    assert universe.feature_names == ("Mpeak", "Vpeak", "upid", "Mvir")


def test_stellar_masses_are_the_files_own_or_follow_from_velocity(tmp_path, simulated):
    universe = data.sub_boxes(0, str(_write_universemachine(tmp_path / "a.bin", simulated)), counted="galaxies")
    with_stars = np.isfinite(universe.log_stellar_mass)
    assert universe.log_stellar_mass[with_stars] == pytest.approx(10.55, abs=1e-5)
    assert (~with_stars).sum() == int(simulated["Vpeak"][1] > 150)
    assert universe.labels.sum() * 25**3 == pytest.approx(with_stars.sum(), rel=1e-5)
    plain = data.sub_boxes(3, str(_write_hlist(tmp_path / "a.list", simulated)))
    scatter = plain.log_stellar_mass - galaxies.log_stellar_mass(plain.features[:, 2].astype(float))
    assert scatter.std() == pytest.approx(galaxies.STELLAR_SCATTER, rel=0.2)
    again = data.sub_boxes(3, str(tmp_path / "a.list"))
    assert np.array_equal(again.log_stellar_mass, plain.log_stellar_mass)


def test_a_large_text_table_is_read_in_parts(tmp_path, simulated, monkeypatch):
    path = _write_hlist(tmp_path / "a.list", simulated)
    whole = data.sub_boxes(0, str(path))
    monkeypatch.setattr(readers, "_CHUNK_ROWS", 7)
    parts = data.sub_boxes(0, str(path))
    assert np.array_equal(whole.grids, parts.grids) and whole.provenance == parts.provenance


def _cut(path, by):
    path.write_bytes(path.read_bytes()[:-by])
    return path


def test_a_file_that_is_cut_off_is_named(tmp_path, simulated):
    cut = [
        _cut(_write_hlist(tmp_path / "a.list", simulated), 20),
        _cut(_write_universemachine(tmp_path / "a.bin", simulated), 20),
        _cut(_write_halotools(tmp_path / "a.h5", simulated), 2000),
    ]
    for path in cut:
        with pytest.raises(BadInput, match=f"{path}.*cut off"):
            data.sub_boxes(0, str(path))


def test_a_line_cut_within_the_table_is_named(tmp_path, simulated):
    path = _write_hlist(tmp_path / "a.list", simulated)
    lines = path.read_text().splitlines()
    lines[9] = lines[9][:30]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(BadInput, match="a.list has a line that is cut off"):
        data.sub_boxes(0, str(path))


def test_missing_columns_are_listed_with_those_found(tmp_path, simulated, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[__name__], "HLIST_NAMES", [n for n in HLIST_NAMES if n not in ("Macc", "Spin")])
        path = _write_hlist(tmp_path / "a.list", simulated)
    with pytest.raises(BadInput, match=r"a\.list lacks the columns macc, spin; found: scale, id, .*vpeak"):
        data.sub_boxes(0, str(path))
    path = _write_halotools(tmp_path / "a.h5", simulated, lacking=("halo_vpeak",))
    with pytest.raises(BadInput, match=r"a\.h5 lacks the columns halo_vpeak; found: halo_scale, "):
        data.sub_boxes(0, str(path))


def test_other_unusable_files_are_sentences(tmp_path, simulated):
    plain = _write_hlist(tmp_path / "plain.list", simulated, header=False)
    empty = tmp_path / "empty.bin"
    empty.write_bytes(b"")
    tableless = tmp_path / "tableless.hdf5"
    with h5py.File(tableless, "w") as file:
        file["halos"] = np.zeros(3)
    (tmp_path / "a.fits").write_bytes(b"x")
    for path, message in (
        (plain, "no Rockstar hlist"),
        (empty, "0 bytes"),
        (tableless, "no table 'data'; found: halos"),
        (tmp_path / "a.fits", "format of .* is unknown"),
    ):
        with pytest.raises(BadInput, match=message):
            data.sub_boxes(0, str(path))
    path = _write_hlist(tmp_path / "a.list", simulated)
    with pytest.raises(BadInput, match="no halo above 900 km/s"):
        data.sub_boxes(0, str(path), vpeak_min=900.0)


def test_a_universemachine_record_has_128_bytes():
    assert readers.UNIVERSE_MACHINE.itemsize == 128
    assert readers.UNIVERSE_MACHINE.fields["obs_sm"][1] == 112


# Grids by path


def _write_umml(folder, boxes, which):
    folder.mkdir(parents=True)
    place = np.stack(np.unravel_index(np.arange(25**3), (25,) * 3), 1)
    for number in which:
        name = folder / f"bolshoiplanck_halos_0_0_{number:03d}_scale_box_25"
        np.save(f"{name}.npy", np.hstack([place, boxes.grids[number].reshape(-1, 1)]))
        np.save(f"{name}_labels.npy", np.stack([boxes.labels[number], boxes.sigma], 1))


def test_umml_grids_are_read_with_their_labels(tmp_path, tiny):
    _write_umml(tmp_path / "all", tiny, range(10))
    found = data.sub_boxes(0, str(tmp_path / "all"))
    assert np.array_equal(found.grids, tiny.grids[:10]) and np.array_equal(found.labels, tiny.labels[:10])
    assert np.array_equal(found.sigma, tiny.sigma)
    assert (len(found.train), len(found.validation)) == (8, 2)
    assert len(found.cells) == 0 and found.provenance["rows"] == 10
    assert len(found.provenance["sha256"]) == 64


def test_the_split_of_umml_folders_is_kept(tmp_path, tiny):
    _write_umml(tmp_path / "train_umML", tiny, range(4))
    _write_umml(tmp_path / "val_umML", tiny, range(4, 6))
    _write_umml(tmp_path / "test_umML", tiny, range(6, 9))
    found = data.sub_boxes(0, str(tmp_path))
    assert np.array_equal(found.grids[found.validation], tiny.grids[4:6])
    assert np.array_equal(found.grids[found.train], tiny.grids[:4])


def _only(folder, pattern):
    return next(iter(sorted(folder.glob(pattern))))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: _cut(_only(f, "*_25.npy"), 100), "_25.npy is cut off"),
        (lambda f: _only(f, "*_labels.npy").unlink(), "there is no file .*_labels.npy"),
        (lambda f: np.save(_only(f, "*_25.npy"), np.zeros((8, 4))), r"shape \(8, 4\) instead of .*\(15625, 4\)"),
        (lambda f: np.save(_only(f, "*_25.npy"), np.full((15625, 4), np.nan)), "NaN or infinite"),
        (lambda f: np.save(_only(f, "*_25.npy"), np.array([{}])), "no .npy array of numbers"),
        (lambda f: np.save(_only(f, "*_labels.npy"), np.zeros((14, 2))), "sigma that is not positive"),
        (lambda f: np.save(_only(f, "*_labels.npy"), np.ones((14, 2))), "another sigma"),
        (lambda f: [p.unlink() for p in f.glob("*_25.npy")], "there is no grid"),
    ],
    ids=["cut", "no labels", "shape", "NaN", "objects", "sigma 0", "two sigmas", "empty"],
)
def test_unusable_umml_grids_are_named(spoil, message, tmp_path, tiny):
    _write_umml(tmp_path / "grids", tiny, range(2))
    spoil(tmp_path / "grids")
    with pytest.raises(BadInput, match=message):
        umml.read(tmp_path / "grids")


# The workload


def _spec(variant="fast", mode="make", batch=8, **options):
    return Spec(variant, mode, "numpy", batch, "25-mpc", 0, options)


def _run(step):
    phase = step.phases[0]
    return phase.model(*phase.feed.next())


@pytest.mark.parametrize("mode", WORKLOAD.modes)
@pytest.mark.parametrize("variant", list(WORKLOAD.variants))
def test_a_step_makes_a_box_of_sub_boxes_and_passes_its_check(variant, mode):
    spec = _spec(variant, mode)
    step = WORKLOAD.build(spec)
    outputs = _run(step)
    assert outputs[0].shape == (8, 25, 25, 25) and step.items == 8
    figures = WORKLOAD.check(spec, outputs)
    assert 100 < figures["halos_per_box"] < 400 and 0.005 < figures["occupied_share"] < 0.02


def test_variants_and_modes_make_the_same():
    first, *others = (
        _run(WORKLOAD.build(_spec(variant, mode))) for variant in WORKLOAD.variants for mode in WORKLOAD.modes
    )
    for other in others:
        assert all(np.allclose(a, b, rtol=1e-6) for a, b in zip(first, other))


def test_steps_take_catalogues_in_turn():
    step = WORKLOAD.build(_spec(mode="grid"))
    numbers = [int(_run(step)[3][0]) for _ in range(8)]
    assert sorted(numbers[:4]) == [0, 1, 2, 3] and numbers[4:] == numbers[:4]


def test_only_gridding_needs_catalogues_beforehand():
    assert WORKLOAD.parts(_spec()) == 0 and WORKLOAD.parts(_spec(mode="grid")) == 4


@pytest.fixture(scope="module")
def outputs():
    return _run(WORKLOAD.build(_spec(mode="grid")))


@pytest.mark.parametrize(
    ("place", "spoil", "message"),
    [
        (0, lambda a: a[:4], "the grids has shape"),
        (0, lambda a: np.where(a == a.max(), np.nan, a), "not finite"),
        (0, lambda a: a * 1.001, "the grids differ from those of the plain way"),
        (0, lambda a: a[:, :, ::-1], "the grids differ"),
        (1, lambda a: a[::-1], "the labels differ"),
        (2, lambda a: a - (np.arange(8) == 3), "halos are in the sub-boxes and"),
        (2, lambda a: np.roll(a, 1), "the halo counts differ"),
    ],
    ids=["shape", "not finite", "a little off", "mirrored", "labels shuffled", "a halo lost", "counts shifted"],
)
def test_wrong_outputs_are_found_out(outputs, place, spoil, message):
    spec = _spec(mode="grid")
    WORKLOAD.check(spec, outputs)
    wrong = [spoil(output) if i == place else output for i, output in enumerate(outputs)]
    with pytest.raises(WrongResult, match=message):
        WORKLOAD.check(spec, wrong)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (_spec(batch=10), "fills no cube"),
        (_spec(counted="stars"), "counted must be one of"),
        (_spec(halo_seed=-1), "halo_seed"),
        (_spec(vpeak_min="fast"), "vpeak_min"),
        (_spec(vpeak_min=2.0), "vpeak_min"),
    ],
)
def test_bad_options_end_in_a_sentence(spec, message):
    with pytest.raises(BadInput, match=message):
        WORKLOAD.build(spec)


def test_options_of_a_spec_reach_the_sub_boxes(tiny):
    spec = Spec("any", "train", "torch", 32, "20", 0, {"box": "tiny", "counted": "galaxies"})
    found = data.of_spec(spec)
    assert len(found) == 64 and found.counted == "galaxies"
    assert np.array_equal(found.grids, tiny.grids)
    with pytest.raises(BadInput, match="halo_seed"):
        data.of_spec(dataclasses.replace(spec, options={"halo_seed": 1.5}))


def test_the_cosmology_is_that_of_bolshoi_planck():
    values = (cosmology.HUBBLE, cosmology.OMEGA_MATTER, cosmology.OMEGA_BARYON, cosmology.SIGMA_8)
    assert (*values, cosmology.SPECTRAL_INDEX) == (0.678, 0.307, 0.048, 0.823, 0.96)
    assert cosmology.virial_overdensity() == pytest.approx(333, abs=1)
