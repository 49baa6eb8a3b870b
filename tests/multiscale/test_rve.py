"""Cells in equilibrium against laws, laminates, and what every cell satisfies."""

import numpy as np
import pytest
import torch
from mpi4py import MPI
from rves import MATRIX, PAPER, SOFT, STIFF, chequered, coarse, laminate, layered, strains

import spon
from meshes import box

CELLS = [("triangle", 4), ("quadrilateral", 4), ("tetrahedron", 2), ("hexahedron", 2)]


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
