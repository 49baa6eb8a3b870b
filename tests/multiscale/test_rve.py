"""Cells in equilibrium against laws, laminates, and what every cell satisfies."""

import ast
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from mpi4py import MPI
from test_imports import WITHOUT_FEM, run_without

import spon
from meshes import box
from spon.multiscale.factorisation import NotPositiveDefinite, _Mumps, _SuperLU
from spon.multiscale.materials import Material
from spon.multiscale.rve_solver import RVENotConverged
from spon.multiscale.voigt import deviatoric_square, trace

SOFT = spon.LinearElastic(K=2.0, G=1.0)
STIFF = spon.LinearElastic(K=11.0, G=7.0)
MATRIX = spon.Deviatoric(K=4780.0, alpha1=50.0, alpha2=0.06)
FIBRE = spon.LinearElastic(K=43452.381, G=29918.0328)
PAPER = {"matrix": MATRIX, "inclusion": FIBRE}
CELLS = [("triangle", 4), ("quadrilateral", 4), ("tetrahedron", 2), ("hexahedron", 2)]


def layered(cell_type, n, degree=1, axis=1):
    """A box whose first half along an axis is soft, the other stiff."""
    arrays = box(cell_type, n, degree)
    tags = np.where(arrays.centroids[:, axis] < 0.5, 1, 2).astype(np.int32)
    return replace(arrays, cell_tags=tags, cell_names={"soft": 1, "stiff": 2})


def chequered(laws=(MATRIX, FIBRE), size=1.0):
    """Two squares of four are inclusions; larger ones are moved, too."""
    arrays = box("quadrilateral", 4)
    inside = (arrays.centroids[:, 0] < 0.5) == (arrays.centroids[:, 1] < 0.5)
    tags = np.where(inside, 2, 1).astype(np.int32)
    arrays = replace(arrays, cell_tags=tags, cell_names={"matrix": 1, "inclusion": 2})
    arrays = replace(arrays, points=size * arrays.points + (size - 1))
    return spon.read_rve(arrays, dict(zip(("matrix", "inclusion"), laws, strict=True)), comm=MPI.COMM_SELF)


def strains(size, count, scale=0.04):
    return torch.as_tensor(np.random.default_rng(3).uniform(-scale, scale, (count, size)))


def coarse(name, tmp_path, n):
    """A mesh that comes with spon, with fewer cells."""
    text = spon.find_mesh(name).read_text()
    assert "n = 12;" in text
    path = tmp_path / name
    path.write_text(text.replace("n = 12;", f"n = {n};"))
    return path


@pytest.fixture(scope="module")
def cell():
    return chequered()


@pytest.fixture(scope="module")
def solved(cell):
    E = strains(3, 3)
    return E, cell.solve(E)


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
@pytest.mark.parametrize("cell_type", [name for name, _ in CELLS])
def test_default_quadrature_has_positive_weights_and_is_exact(cell_type, degree):
    rve = spon.read_rve(box(cell_type, 2), {"domain": MATRIX}, degree, comm=MPI.COMM_SELF)
    assert (rve.weights > 0).all()
    power = 2 * degree - 1
    for axis in range(rve.dimension):
        assert rve.weights @ rve.points[:, axis] ** power == pytest.approx(1 / (power + 1), rel=1e-12)


def test_sensitivities_are_derivatives(cell):
    E, h = strains(3, 2), 1e-6
    exact = cell.sensitivities(E, cell.solve(E).fluctuation)
    for k, direction in enumerate(torch.eye(3).double()):
        ahead, behind = (cell.solve(E + s * h * direction).fluctuation for s in (1, -1))
        gap = (ahead - behind) / (2 * h) - exact[:, :, k]
        assert gap.abs().max() < 1e-5 * exact.abs().max()


@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize(("cell_type", "n"), CELLS)
def test_a_homogeneous_cell_is_its_law(cell_type, n, degree):
    rve = spon.read_rve(box(cell_type, n, degree), {"domain": MATRIX}, comm=MPI.COMM_SELF)
    E = strains(rve.strain_size, 2)
    found = rve.solve(E)
    stress, tangent = MATRIX.response(E)
    torch.testing.assert_close(found.stress, stress, rtol=1e-11, atol=1e-9)
    torch.testing.assert_close(found.tangent, tangent, rtol=1e-11, atol=1e-8)
    assert found.fluctuation.abs().max() < 1e-13
    assert rve.volume == pytest.approx(1.0, rel=1e-13)


def test_averages_do_not_depend_on_the_size_of_the_cell(cell):
    """Strains have no length: the same cell, larger and moved."""
    larger, E = chequered(size=2.5), strains(3, 2)
    found, expected = larger.solve(E), cell.solve(E)
    assert larger.volume == pytest.approx(6.25, rel=1e-12)
    torch.testing.assert_close(found.stress, expected.stress, rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(found.tangent, expected.tangent, rtol=1e-9, atol=1e-6)
    torch.testing.assert_close(found.fluctuation, 2.5 * expected.fluctuation, rtol=1e-8, atol=1e-12)


def laminate(layers, axis, size):
    """Effective stiffness of isotropic layers of equal thickness, normal to an axis, by textbook formulas."""
    lam = torch.tensor([m.K - 2 * m.G / 3 for m in layers], dtype=torch.float64)
    mu = torch.tensor([m.G for m in layers], dtype=torch.float64)
    M = lam + 2 * mu
    d = 2 if size == 3 else 3
    normal = 1 / (1 / M).mean()
    C = torch.zeros(size, size, dtype=torch.float64)
    for i in range(d):
        for j in range(d):
            if i == j == axis:
                C[i, j] = normal
            elif axis in (i, j):
                C[i, j] = (lam / M).mean() * normal
            else:
                along = (M if i == j else lam) - lam**2 / M
                C[i, j] = along.mean() + (lam / M).mean() ** 2 * normal
    planes = [(0, 1)] if d == 2 else [(1, 2), (0, 2), (0, 1)]
    for k, plane in enumerate(planes):
        C[d + k, d + k] = 1 / (1 / mu).mean() if axis in plane else mu.mean()
    return C


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("cell_type", "n"), CELLS)
def test_a_laminate_has_its_analytic_stiffness(cell_type, n, axis):
    rve = spon.read_rve(layered(cell_type, n, axis=axis), {"soft": SOFT, "stiff": STIFF}, comm=MPI.COMM_SELF)
    E = strains(rve.strain_size, 1)
    found = rve.solve(E)
    C = laminate([SOFT, STIFF], axis, rve.strain_size)
    torch.testing.assert_close(found.tangent[0], C, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(found.stress, E @ C, rtol=1e-11, atol=1e-12)


def test_the_work_of_the_averages_is_the_average_work(cell, solved):
    """Hill–Mandel; the stress of the solution is the average of the local ones."""
    E, found = solved
    local = cell.strains(E, found.fluctuation)
    stress = cell.stresses(local)
    work = cell.average((stress * local).sum(-1, keepdim=True))[:, 0]
    torch.testing.assert_close(work, (found.stress * E).sum(1), rtol=1e-12, atol=0)
    torch.testing.assert_close(cell.average(stress), found.stress, rtol=1e-13, atol=1e-11)
    torch.testing.assert_close(cell.average(local), E, rtol=1e-12, atol=1e-15)
    assert found.residual.max() <= 1e-12


def test_fluctuations_are_periodic(cell, solved):
    _, found = solved
    values = found.fluctuation.numpy().reshape(len(found.fluctuation), -1, 2)
    x = cell.node_coordinates
    for axis in range(2):
        low, high = (np.flatnonzero(x[:, axis] == side) for side in (0, 1))
        low, high = (on[np.argsort(x[on, 1 - axis])] for on in (low, high))
        assert len(low) > 3
        assert np.abs(values[:, low] - values[:, high]).max() <= 1e-14
    assert np.abs(values).max() > 1e-3


def test_the_strain_operator_is_that_of_the_displacement(cell):
    """Strains of a linear displacement, and of a quadratic one at the quadrature points."""
    x, y = cell.node_coordinates.T
    u = np.stack([0.3 * x + x * y, y**2 - 0.2 * x], axis=1).ravel()
    px, py = cell.points.T
    expected = np.stack([0.3 + py, 2 * py, px - 0.2], axis=1)
    np.testing.assert_allclose(cell.strain_operator @ u, expected.ravel(), atol=1e-13)


def test_the_tangent_is_the_derivative_of_the_stress(cell, solved):
    E, found = solved
    h = 1e-5
    for k in range(3):
        step = h * torch.eye(3, dtype=torch.float64)[k]
        slope = (cell.solve(E + step).stress - cell.solve(E - step, found.fluctuation).stress) / (2 * h)
        error = (found.tangent[:, :, k] - slope).abs().max()
        assert error < 1e-6 * found.tangent.abs().max()
    assert (found.tangent - found.tangent.mT).abs().max() <= 1e-12 * found.tangent.abs().max()
    assert torch.linalg.eigvalsh(found.tangent).min() > 0


def test_the_stress_is_the_derivative_of_the_mean_potential(cell):
    E, h = strains(3, 1), 1e-5

    def potential(strain):
        local = cell.strains(strain, cell.solve(strain).fluctuation)
        return float((cell.potentials(local)[0] * torch.as_tensor(cell.weights)).sum()) / cell.volume

    stress = cell.solve(E).stress[0]
    for k in range(3):
        step = h * torch.eye(3, dtype=torch.float64)[k]
        slope = (potential(E + step) - potential(E - step)) / (2 * h)
        assert float(stress[k]) == pytest.approx(slope, rel=1e-6)


def test_the_result_does_not_depend_on_the_start(cell, solved):
    E, found = solved
    start = found.fluctuation.roll(1, 0)
    again = cell.solve(E, start)
    torch.testing.assert_close(again.stress, found.stress, rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(again.fluctuation, found.fluctuation, rtol=1e-8, atol=1e-12)
    assert (cell.solve(E, found.fluctuation).iterations == 0).all()
    zero = cell.solve(torch.zeros(1, 3, dtype=torch.float64))
    assert zero.stress.abs().max() == 0
    assert len(cell.solve(E[:0]).stress) == 0


def test_second_order_elements_converge_at_their_rate(tmp_path):
    """The energy of nested spaces falls to its limit as h⁴."""
    mesh = spon.read_mesh(coarse("rve2.geo", tmp_path, 4), MPI.COMM_SELF).arrays
    laws = {"matrix": SOFT, "inclusion": STIFF}
    E = torch.tensor([[0.02, -0.01, 0.03]], dtype=torch.float64)
    energies = []
    for _ in range(3):
        found = spon.read_rve(mesh, laws, comm=MPI.COMM_SELF).solve(E)
        energies.append(float((found.stress * E).sum()) / 2)
        mesh, _ = spon.refine(mesh)
    first, second = -np.diff(energies)
    assert first > second > 0
    assert 3.4 < np.log2(first / second) < 4.8


@pytest.mark.parametrize("degree", [1, 2])
def test_a_sphere_is_between_the_bounds(degree):
    """Voigt and Reuss; and almost cubic, though the tetrahedra are not."""
    laws = {"matrix": SOFT, "inclusion": STIFF}
    rve = spon.read_rve(spon.find_mesh("sphere.geo"), laws, degree, comm=MPI.COMM_SELF)
    assert rve.volume_fraction("inclusion") == pytest.approx(0.2, abs=1e-3)
    C = rve.solve(strains(6, 1)).tangent[0]
    soft, stiff, share = SOFT.quadratic(6), STIFF.quadratic(6), rve.volume_fraction("inclusion")
    voigt = (1 - share) * soft + share * stiff
    reuss = torch.linalg.inv((1 - share) * torch.linalg.inv(soft) + share * torch.linalg.inv(stiff))
    assert torch.linalg.eigvalsh(voigt - C).min() > 0
    assert torch.linalg.eigvalsh(C - reuss).min() > 0
    assert (C.diagonal()[:3] / C[0, 0] - 1).abs().max() < 0.01
    assert (C.diagonal()[3:] / C[3, 3] - 1).abs().max() < 0.01
    assert (C - C.mT).abs().max() <= 1e-12 * C.abs().max()


@pytest.mark.parametrize(
    ("name", "fraction"),
    [("rve1.geo", 0.55), ("rve2.geo", np.pi * 0.35 * 0.175), ("rve3.geo", np.pi * (0.15**2 + 2 * 0.1**2))],
)
def test_the_cells_of_the_paper_have_their_volume_fractions(name, fraction):
    rve = spon.read_rve(spon.find_mesh(name), PAPER, comm=MPI.COMM_SELF)
    assert rve.cell_type == "quadrilateral"
    assert rve.cell_weights.shape[1] == 9
    assert rve.volume_fraction("inclusion") == pytest.approx(fraction, abs=2e-5)
    assert rve.volume == pytest.approx(1.0, rel=1e-12)


def test_a_saved_cell_is_the_same(cell, solved, tmp_path):
    cell.save(tmp_path / "cell.h5")
    again = spon.RVE.load(tmp_path / "cell.h5")
    E, found = solved
    assert again.names == cell.names
    assert again.materials == cell.materials
    torch.testing.assert_close(again.solve(E).stress, found.stress, rtol=1e-12, atol=1e-10)


def test_both_factorisations_solve(rng):
    A = sp.random_array((30, 30), density=0.1, rng=rng)
    A = sp.csr_array(A + A.T + 20 * sp.eye_array(30))
    A.sort_indices()
    b = rng.standard_normal((30, 2))
    for kind in (_Mumps, _SuperLU):
        factor = kind(A)
        for scale in (1.0, 2.0):
            factor.update(scale * A.data)
            np.testing.assert_allclose(scale * (A @ factor.solve(b)), b, atol=1e-12)
        with pytest.raises(NotPositiveDefinite):
            factor.update(sp.csr_array(A - 40 * sp.eye_array(30)).data)


class Saturating(Material):
    """Convex; the stress grows as arctan, so that Newton's method overshoots."""

    def potential(self, strain):
        square = 1e4 * (trace(strain) ** 2 + deviatoric_square(strain))
        return (1 + square).sqrt() + 1e-7 * square


class Softening(Material):
    """Not convex away from zero: no minimum."""

    def potential(self, strain):
        square = trace(strain) ** 2 + deviatoric_square(strain)
        return square - 1e3 * square**2


def test_points_without_equilibrium_are_marked():
    model = spon.FEModel(chequered(laws=(Softening(), SOFT)))
    E = torch.tensor([[0.001, 0.0, 0.0], [0.4, 0.2, 0.3]], dtype=torch.float64)
    response = model.respond(E, torch.tensor([5, 9]))
    assert response.failed.tolist() == [False, True]
    assert response.stress[0].isfinite().all()
    assert response.stress[1].isnan().all()
    with pytest.raises(RVENotConverged, match=r"sample 1: no equilibrium at the strain \(0.4, 0.2, 0.3\)"):
        model.rve.solve(E)


def test_the_fe_model_starts_where_it_was(cell, solved, monkeypatch):
    E, found = solved
    model, where = spon.FEModel(cell), torch.tensor([7, 0, 3])
    steps = []
    solve_one = cell.solver.solve_one

    def spy(*arguments):
        out = solve_one(*arguments)
        steps.append(int(out.iterations))
        return out

    monkeypatch.setattr(cell.solver, "solve_one", spy)
    for points in (None, where, where, where.flip(0)):
        response = model.respond(E, points)
        torch.testing.assert_close(response.stress, found.stress, rtol=1e-9, atol=1e-8)
        torch.testing.assert_close(response.tangent, found.tangent, rtol=1e-7, atol=1e-5)
        assert not response.failed.any()
    assert min(steps[:6]) > 0
    assert max(steps[6:9]) == 0  # the same strains at the same points
    assert steps[9] > 0
    with pytest.raises(spon.SponError, match=r"\(3,\) points for 2 strains; allowed: one for each"):
        model.respond(E[:2], where)


def test_a_saved_cell_is_solved_where_there_is_no_dolfinx(cell, solved, tmp_path):
    cell.save(tmp_path / "cell.h5")
    E, found = solved
    code = (
        "import spon, torch\n"
        f"rve = spon.RVE.load({str(tmp_path / 'cell.h5')!r})\n"
        f"E = torch.tensor({E.tolist()}, dtype=torch.float64)\n"
        "response = spon.FEModel(rve).respond(E)\n"
        "print(response.stress.tolist())"
    )
    result = run_without(WITHOUT_FEM, code)
    assert result.returncode == 0, result.stderr
    stress = torch.tensor(ast.literal_eval(result.stdout), dtype=torch.float64)
    torch.testing.assert_close(stress, found.stress, rtol=1e-10, atol=1e-9)


def test_a_step_that_is_too_long_is_halved():
    """A law that stiffens suddenly: full steps overshoot."""
    rve = chequered(laws=(Saturating(), SOFT))
    E = torch.tensor([[0.3, -0.1, 0.6]], dtype=torch.float64)
    start = 20 * rve.solve(E / 100).fluctuation
    found, alike = rve.solve(E), rve.solve(E, start)
    torch.testing.assert_close(alike.stress, found.stress, rtol=1e-9, atol=1e-12)


@pytest.mark.mpi
def test_cases_are_the_same_on_any_number_of_ranks(tmp_path):
    comm, E = MPI.COMM_WORLD, strains(3, 4)
    arrays = layered("triangle", 4)
    rve = spon.read_rve(arrays, {"soft": MATRIX, "stiff": FIBRE}, comm=comm)
    found, alone = spon.solve_cases(rve, E, comm), rve.solve(E)
    for name, value in vars(alone).items():
        if name not in ("residual", "iterations"):
            torch.testing.assert_close(getattr(found, name), value, rtol=1e-9, atol=1e-9)
    bad = spon.read_rve(arrays, {"soft": Softening(), "stiff": SOFT}, comm=comm)
    E[1] = torch.tensor([0.4, 0.2, 0.3])
    E[[0, 2, 3]] = 0
    with pytest.raises(spon.SponError, match="case 1: no equilibrium"):
        spon.solve_cases(bad, E, comm)


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


def with_hole():
    arrays = box("quadrilateral", 4)
    kept = np.abs(arrays.centroids - 0.5).max(axis=1) > 0.25
    return replace(arrays, cells=arrays.cells[kept], cell_tags=arrays.cell_tags[kept])


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
