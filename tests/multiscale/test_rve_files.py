"""Cells that are read and written, and what is refused."""

import ast
from dataclasses import replace

import numpy as np
import pytest
import torch
from mpi4py import MPI
from rves import PAPER, SOFT, Softening, chequered, layered, strains
from test_imports import WITHOUT_FEM, run_without

import spon
from meshes import box
from spon.multiscale.materials import Material
from spon.multiscale.voigt import deviatoric_square, trace


def test_a_saved_cell_is_the_same(cell, solved, tmp_path):
    cell.save(tmp_path / "cell.h5")
    again = spon.RVE.load(tmp_path / "cell.h5")
    E, found = solved
    assert again.names == cell.names
    assert again.materials == cell.materials
    torch.testing.assert_close(again.solve(E).stress, found.stress, rtol=1e-12, atol=1e-10)


def test_a_saved_cell_is_solved_where_there_is_no_dolfinx(cell, solved, tmp_path):
    cell.save(tmp_path / "cell.h5")
    E, found = solved
    code = (
        "import spon, torch\n"
        f"rve = spon.RVE.load({str(tmp_path / 'cell.h5')!r})\n"
        f"E = torch.tensor({E.tolist()}, dtype=torch.float64)\n"
        "response = spon.FEModel(rve, tolerance=1e-12).respond(E)\n"
        "print(response.stress.tolist())"
    )
    result = run_without(WITHOUT_FEM, code)
    assert result.returncode == 0, result.stderr
    stress = torch.tensor(ast.literal_eval(result.stdout), dtype=torch.float64)
    torch.testing.assert_close(stress, found.stress, rtol=1e-10, atol=1e-9)


@pytest.mark.mpi
def test_a_file_is_read_by_one_rank(shared_folder):
    with pytest.raises(spon.SponError, match=r"missing\.msh"):
        spon.read_rve(shared_folder / "missing.msh", PAPER)
    rve = spon.read_rve(spon.find_mesh("rve2.geo"), PAPER)
    counts = MPI.COMM_WORLD.allgather(rve.dofs)
    assert len(set(counts)) == 1


class Skew(Material):
    """A law without a potential."""

    def potential(self, strain):
        return 0.0 * trace(strain)

    def response(self, strain):
        C = torch.eye(strain.shape[-1], dtype=torch.float64)
        C[0, 1] = 0.1
        return strain @ C.T, C.expand(len(strain), -1, -1)


class Unstable(Material):
    def potential(self, strain):
        return deviatoric_square(strain) - trace(strain) ** 2


class Plastic(Unstable):
    state = ("plastic strain",)


def without_corner():
    arrays = box("quadrilateral", 4)
    kept = arrays.centroids.max(axis=1) < 0.75
    kept |= arrays.centroids.min(axis=1) < 0.75
    used = np.unique(arrays.cells[kept])
    number = np.full(len(arrays.points), -1)
    number[used] = np.arange(len(used))
    facets = number[arrays.facets]
    whole = (facets >= 0).all(axis=1)
    return replace(
        arrays,
        points=arrays.points[used],
        cells=number[arrays.cells[kept]],
        cell_tags=arrays.cell_tags[kept],
        facets=facets[whole][:0],
        facet_tags=arrays.facet_tags[whole][:0],
    )


def unequal():
    arrays = box("quadrilateral", 4)
    points = arrays.points.copy()
    moved = (points[:, 0] == 1) & (points[:, 1] == 0.5)
    points[moved, 1] += 0.05
    return replace(arrays, points=points)


def unnamed():
    arrays = box("quadrilateral", 4)
    tags = arrays.cell_tags.copy()
    tags[5] = -1
    return replace(arrays, cell_tags=tags)


@pytest.mark.parametrize(
    ("mesh", "laws", "message"),
    [
        (unequal, {"domain": SOFT}, r"'low x' and 'high x' of .* do not match .* 1 points without an image"),
        (without_corner, {"domain": SOFT}, r"the cells fill 0\.9375 of their box, 1; allowed: all of it"),
        (unnamed, {"domain": SOFT}, "1 cells belong to no phase, such as cell 5"),
        (lambda: layered("triangle", 4), {"soft": SOFT}, "phase 'stiff' of .* has no law; .*: 'soft'"),
        (lambda: box("triangle", 4), {"domain": SOFT, "air": SOFT}, "a law for 'air', no phase .*: 'domain'"),
        (lambda: box("triangle", 4), {"domain": Skew()}, r"'domain' \(Skew\): .* not symmetric, by 0.1"),
        (lambda: box("triangle", 4), {"domain": Unstable()}, r"\(Unstable\): .* has the eigenvalue -"),
        (lambda: box("triangle", 4), {"domain": Plastic()}, r"a law with history \(plastic strain\)"),
        (lambda: box("triangle", 4), {"domain": spon.NeoHookean(1.0, 1.0)}, "a law of the deformation"),
    ],
)
def test_what_is_refused(mesh, laws, message):
    with pytest.raises(spon.SponError, match=message):
        spon.read_rve(mesh(), laws, comm=MPI.COMM_SELF)


def test_what_a_cell_refuses(cell, tmp_path):
    with pytest.raises(spon.SponError, match="a strain of 6 components; allowed: 3"):
        cell.solve(strains(6, 2))
    with pytest.raises(spon.SponError, match=r"a start of shape \(1, 7\); allowed: \(2, "):
        cell.solve(strains(3, 2), torch.zeros(1, 7, dtype=torch.float64))
    with pytest.raises(spon.SponError, match=r"phase 'air' .*; allowed: matrix, inclusion"):
        cell.volume_fraction("air")
    with pytest.raises(spon.SponError, match="'Softening' cannot be written"):
        chequered(laws=(Softening(), SOFT)).save(tmp_path / "cell.h5")
    (tmp_path / "other.h5").write_text("no")
    with pytest.raises(spon.SponError, match="not a readable HDF5 file"):
        spon.RVE.load(tmp_path / "other.h5")
