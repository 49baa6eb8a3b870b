"""Element kernels in torch: they are the assembled residual, and derivatives of each other."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import ufl
from conftest import Diffusion, on_square
from dolfinx import fem
from mpi4py import MPI
from test_imports import WITHOUT_FEM, run_without

import spon
from meshes import box, mapped
from spon.fem.mesh import TaggedMesh
from spon.physics.assembled.describe import _assembled

SELF, WORLD = MPI.COMM_SELF, MPI.COMM_WORLD
CELLS = ("triangle", "quadrilateral", "tetrahedron", "hexahedron")
MU, LAME = 0.7, 1.1


def curved(x):
    return [x[0] + 0.06 * np.sin(3 * x[1]), x[1] + 0.05 * x[0] * x[1], *x[2:]]


class Body(spon.Problem):
    """A kernel with a coefficient in a space of its own and a traction that depends on the sample."""

    def __init__(self, cell_type, geometry=1, degree=1, kind="diffusion", space="P", n=2, comm=SELF):
        arrays = mapped(box(cell_type, n, geometry), curved)
        hierarchy = spon.Hierarchy.uniform(TaggedMesh(arrays, comm), 0)
        self.kind, self.degree, self.coefficient = kind, degree, space
        self.linear = kind != "neo-hookean"
        super().__init__(hierarchy, {"left": 0.0})
        self.gdim = arrays.points.shape[1]

    def make_space(self):
        components = 1 if self.kind == "diffusion" else self.gdim
        return spon.lagrange(self.hierarchy.finest, self.degree, components)

    def make_inputs(self):
        mesh = self.hierarchy.finest
        if self.coefficient == "DG0":
            space = fem.functionspace(mesh.dolfinx, ("DG", 0))
        else:
            space = spon.lagrange(mesh, self.degree if self.coefficient == "Pk" else 1)
        load = spon.Trace(mesh, spon.lagrange(mesh), "right")
        return {"s": spon.Parameters(mesh, ("p", "q")), "t": load, "a": space}

    def sample(self, rng):
        sizes = self.coefficients.sizes
        return {
            "a": np.exp(rng.normal(size=sizes["a"])),
            "t": rng.normal(size=sizes["t"]),
            "s": rng.normal(size=2),
        }

    def residual(self, u, m, v):
        w = v if self.kind == "diffusion" else v[0]
        loads = m["t"] * w * self.ds("right") + (m["s"][0] + 3 * m["s"][1]) * w * ufl.dx + w * self.ds("top")
        return self.forces(u, m["a"], v) - loads

    def forces(self, u, a, v):
        if self.kind == "diffusion":
            return a * ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx
        eye = ufl.Identity(self.gdim)
        if self.kind == "neo-hookean":
            F = eye + ufl.grad(u)
            P = MU * (F - ufl.inv(F).T) + LAME * ufl.ln(ufl.det(F)) * ufl.inv(F).T
            return a * ufl.inner(P, ufl.grad(v)) * ufl.dx(metadata={"quadrature_degree": 3})
        nu, e = 0.3, ufl.sym(ufl.grad(u))
        lame = nu / (1 - nu**2) if self.kind == "plane stress" else nu / ((1 + nu) * (1 - 2 * nu))
        stress = 2.0 * a * (lame * ufl.tr(e) * eye + e / (1 + nu))
        return ufl.inner(stress, ufl.sym(ufl.grad(v))) * ufl.dx

    def physics(self):
        if self.kind == "diffusion":
            return self.describe("diffusion", "a")
        if self.kind == "neo-hookean":
            return self.describe("neo-hookean", "a", mu=MU, lame=LAME)
        return self.describe("elasticity", "a", young=2.0, poisson=0.3, state=self.kind)

    def states(self, batch=2, seed=0):
        """Admissible u and inputs."""
        rng = np.random.default_rng(seed)
        u = self.constraint.expand(rng.uniform(-1, 1, (batch, self.constraint.Z.shape[1])))
        slope = np.abs(
            self.discretisation.levels[0].gradient
            @ u.reshape(batch, -1, u.shape[1] // len(self.discretisation.levels[0].points))[0]
        ).max()
        m = np.array([self.vector(self.sample(np.random.default_rng(k))) for k in range(batch)])
        return torch.as_tensor(0.1 * u / slope), torch.as_tensor(m)


def case(cell_type, geometry, degree, kind, space):
    return pytest.param(
        cell_type, geometry, degree, kind, space, id=f"{cell_type}{geometry}-P{degree}-{kind}-{space}"
    )


AGREEMENT = [
    *[case(c, g, p, "diffusion", "P") for c in CELLS for g, p in ((1, 1), (2, 2))],
    *[case(c, 1, 1, "diffusion", "DG0") for c in ("triangle", "hexahedron")],
    case("triangle", 2, 1, "diffusion", "P"),
    case("triangle", 1, 2, "diffusion", "Pk"),
    case("quadrilateral", 2, 2, "plane stress", "Pk"),
    case("triangle", 1, 2, "plane strain", "DG0"),
    case("tetrahedron", 1, 2, "solid", "P"),
    case("hexahedron", 1, 1, "solid", "P"),
    case("triangle", 2, 2, "neo-hookean", "P"),
    case("tetrahedron", 1, 1, "neo-hookean", "DG0"),
    case("hexahedron", 1, 1, "neo-hookean", "P"),
]
SMOOTH = [
    case("triangle", 1, 2, "diffusion", "P"),
    case("quadrilateral", 1, 1, "plane stress", "P"),
    case("tetrahedron", 1, 1, "solid", "P"),
    case("triangle", 2, 2, "neo-hookean", "P"),
    case("hexahedron", 1, 1, "neo-hookean", "P"),
]


def kernel_of(problem, **more):
    return spon.make_kernel(problem.discretisation, problem.physics(), **more)


@pytest.mark.parametrize(("cell_type", "geometry", "degree", "kind", "space"), AGREEMENT)
def test_the_residual_is_the_assembled_one(cell_type, geometry, degree, kind, space):
    problem = Body(cell_type, geometry, degree, kind, space, n=1 if geometry == 2 else 2)
    u, m = problem.states()
    found = kernel_of(problem).residual(u, m)
    for k in range(len(u)):
        expected, scale = _assembled(problem, u[k].numpy(), m[k].numpy())
        np.testing.assert_allclose(found[k].numpy(), expected, atol=1e-12 * scale)
        assert np.abs(expected).max() > 0.01


@pytest.mark.parametrize(("cell_type", "geometry", "degree", "kind", "space"), SMOOTH)
def test_derivatives(cell_type, geometry, degree, kind, space):
    """The energy's gradient is the residual, its Jacobian symmetric with the diagonal that it says."""
    problem = Body(cell_type, geometry, degree, kind, space)
    u, m = problem.states()
    kernel = kernel_of(problem)
    v, w = (
        torch.randn(u.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(k)) for k in (1, 2)
    )
    v, w = (0.03 * x / kernel.slopes(x).abs().max() for x in (v, w))
    energy, residual, J = kernel.energy(u, m), kernel.residual(u, m), kernel.linearise(u, m)
    left, right = (w * J(v)).sum(dim=1), (v * J(w)).sum(dim=1)
    scale = (v * J(v)).sum(dim=1).abs()
    torch.testing.assert_close(left, right, rtol=0, atol=1e-12 * float(scale.max()))
    errors = []
    for h in (1.0, 0.5):
        change = kernel.energy(u + h * v, m) - energy - h * (residual * v).sum(dim=1)
        force = kernel.residual(u + h * v, m) - residual - h * J(v)
        errors.append((change.abs().max(), force.abs().max()))
    assert errors[0][0] / errors[1][0] == pytest.approx(4, rel=0.15)
    if kernel.linear:
        assert errors[0][1] < 1e-12 * residual.abs().max()
    else:
        assert errors[0][1] / errors[1][1] == pytest.approx(4, rel=0.2)
    unit = torch.eye(u.shape[1], dtype=torch.float64)
    one = kernel.linearise(u[:1].expand(len(unit), -1), m[:1].expand(len(unit), -1))
    torch.testing.assert_close(one(unit).diagonal(), kernel.diagonal(u, m)[0], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("kind", ["diffusion", "plane stress", "neo-hookean"])
def test_gradients_with_respect_to_inputs_and_states_are_those_of_autograd(kind):
    problem = Body("triangle", 1, 1, kind, "P", n=1)
    u, m = (x.requires_grad_() for x in problem.states(1))
    kernel = kernel_of(problem)
    assert torch.autograd.gradcheck(kernel.residual, (u, m))
    assert torch.autograd.gradcheck(kernel.energy, (u, m))


def test_single_precision_and_batches_change_nothing_but_round_off():
    problem = Body("triangle", 1, 2, "plane stress", "P")
    u, m = problem.states(3)
    whole = kernel_of(problem).residual(u, m)
    single = kernel_of(problem, dtype=torch.float32).residual(u.float(), m.float())
    assert (single - whole).abs().max() < 1e-5 * whole.abs().max()
    for k in range(3):
        torch.testing.assert_close(kernel_of(problem).residual(u[k : k + 1], m[k : k + 1])[0], whole[k])


def test_folded_cells_have_infinite_energy():
    problem = Body("triangle", 1, 1, "neo-hookean", "P")
    u, m = problem.states()
    kernel = kernel_of(problem)
    assert kernel.energy(100 * u, m).isinf().all()
    assert kernel.energy(u, m).isfinite().all()


class Wrong(Diffusion):
    def physics(self):
        return replace(super().physics(), constants={}, load=super().physics().load * 1.001)


def test_physics_that_are_not_those_of_the_residual_are_refused():
    with pytest.raises(
        spon.SponError, match="diffusion kernel differs from the assembled residual of Wrong by"
    ):
        spon.generate(Wrong(on_square(2, 1)), 1, comm=SELF)


def test_what_does_not_fit_is_refused(problem):
    d, physics = problem.discretisation, problem.physics()
    for change, message in (
        ({"kernel": "maxwell"}, "kernel 'maxwell'; allowed: diffusion, elasticity, neo-hookean"),
        ({"constants": {"nu": 1}}, "constants nu; allowed: none"),
        ({"coefficient": "E"}, "coefficient 'E'; allowed: kappa"),
        ({"kernel": "elasticity"}, "constants none; allowed: young, poisson, state"),
    ):
        with pytest.raises(spon.SponError, match=message):
            spon.make_kernel(d, replace(physics, **change))
    with pytest.raises(spon.SponError, match="names no kernel"):
        spon.make_kernel(d, None)
    kernel = spon.make_kernel(d, physics)
    with pytest.raises(spon.SponError, match=r"u of shape \(1, 3\), torch.float64; allowed: \(batch, "):
        kernel.residual(torch.zeros(1, 3, dtype=torch.float64), torch.ones(1, d.dofs, dtype=torch.float64))
    with pytest.raises(spon.SponError, match="coefficient 'b'; allowed: kappa"):
        problem.describe("diffusion", "b")


def test_physics_survive_files_and_splits_and_kernels_need_no_dolfinx(tmp_path, dataset):
    dataset.save(tmp_path / "data.h5")
    again = spon.Dataset.load(tmp_path / "data.h5")
    for data in (again, again.split(10, 5)[1], again.parts()[1]):
        assert data.physics is not None
        assert data.physics.constants == dataset.physics.constants
        np.testing.assert_array_equal(data.physics.load, dataset.physics.load)
    code = (
        "import spon, torch\n"
        f"data = spon.Dataset.load({str(tmp_path / 'data.h5')!r})\n"
        "m = torch.as_tensor(data.inputs[:3])\n"
        "kernel = spon.make_kernel(data.discretisation, data.physics)\n"
        "u, info = spon.MultigridSolver(data.discretisation, data.physics).solve(None, m, 1e-12)\n"
        "print(float((u - torch.as_tensor(data.outputs[:3])).abs().max()))"
    )
    result = run_without(WITHOUT_FEM, code)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 1e-10


def test_loads_survive_files(tmp_path):
    problem = Body("triangle", n=1)
    data = spon.generate(problem, 2, comm=SELF)
    data.save(tmp_path / "data.h5")
    found = spon.Dataset.load(tmp_path / "data.h5").physics
    assert (found.loads != data.physics.loads).nnz == 0
    assert found.loads.nnz > 0
    assert found.coefficient == "a"
    np.testing.assert_array_equal(found.rule.weights, data.physics.rule.weights)
    np.testing.assert_array_equal(found.coefficient_cells, data.physics.coefficient_cells)


@pytest.mark.mpi
def test_physics_are_the_same_on_any_number_of_ranks():
    for kind in ("plane stress", "neo-hookean"):
        spread = Body("triangle", 1, 2, kind, "P", comm=WORLD).verified_physics
        alone = Body("triangle", 1, 2, kind, "P").physics()
        np.testing.assert_allclose(spread.load, alone.load, atol=1e-13)
        assert abs(spread.loads - alone.loads).max() < 1e-13
        np.testing.assert_array_equal(spread.coefficient_cells, alone.coefficient_cells)
