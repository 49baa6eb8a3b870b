"""Say in arrays what a problem's residual is, and check it against the assembled one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import ufl
from dolfinx import fem
from dolfinx.fem import petsc
from petsc4py import PETSc
from ufl.algorithms import extract_coefficients

from spon.errors import SponError, agree
from spon.fem import reference
from spon.fem.assembly import assembled
from spon.fem.encoding import Dofs
from spon.fem.levels import reference_element
from spon.fem.trace import Trace
from spon.physics.kernels.physics import Physics

__all__ = ["describe", "verify"]

Floats = npt.NDArray[np.float64]
_TOLERANCE = 1e-10
_MODULUS = 0.5  # of the gradient of a test state: far from folding, far from linear


def describe(
    problem: Any, kernel: str, coefficient: str | None, constants: Mapping[str, Any] | None
) -> Physics:
    """Return the physics of a problem whose residual is a kernel minus a load. Collective.

    The load is −F(0; 0), what inputs other than the coefficient add to it is −∂F/∂m at u = 0.

    Args:
        problem: a `Problem`.
        kernel: name of the kernel.
        coefficient: input that multiplies it; None: none.
        constants: of the kernel.

    Raises:
        SponError: on all ranks: an unknown coefficient, or one that is no scalar Lagrange function; parts of
            the form with different quadrature.
    """
    order = problem.order
    with agree(problem.comm):
        table = _coefficient(problem, coefficient)
        degree = _quadrature_degree(problem)
        (part,) = order.canonical.parts
        arrays = problem.hierarchy.finest.arrays
        element = part.numbering.element
        rule = reference_element(arrays.cell_type, element.degree, arrays.degree, degree)
        if table is not None:
            encoder = problem.encoders[coefficient]
            (space,) = encoder.canonical.parts
            X = reference.quadrature(arrays.cell_type, degree)[0]
            table = np.ascontiguousarray(space.numbering.element.tabulate(0, X)[0, :, :, 0])
            cells = np.asarray(space.numbering.dofmap, dtype=np.int64)
    return Physics(
        kernel,
        -_residual_at_zero(problem),
        coefficient,
        dict(constants or {}),
        _loads(problem, coefficient),
        rule,
        None if table is None else cells,
        table,
        1 if problem.linear else problem.load_steps,
    )


def _coefficient(problem: Any, name: str | None) -> Any:
    """Refuse what cannot be a coefficient; True if there is one."""
    if name is None:
        return None
    if name not in problem.encoders:
        raise SponError(f"coefficient '{name}'; allowed: {', '.join(problem.encoders)}")
    encoder = problem.encoders[name]
    scalar = type(encoder).__name__ in ("Dofs", "Projection")
    if scalar:
        scalar = len(encoder.canonical.parts) == 1 and encoder.canonical.value_size == 1
    if not scalar:
        raise SponError(f"coefficient '{name}' is no scalar function of a space; allowed: Lagrange, DG")
    return True


def _quadrature_degree(problem: Any) -> int:
    """Return the degree at which DOLFINx integrates the part of the residual that has u in it."""
    inputs, space = problem.coefficients.ufl, problem.space
    v = ufl.TestFunction(space)
    state = None if problem.linear else fem.Function(space)
    if state is None:
        form = ufl.lhs(problem.residual(ufl.TrialFunction(space), inputs, v))
    else:
        form = problem.residual(state, inputs, v)
    data = ufl.algorithms.compute_form_data(  # as ffcx.analysis does
        form,
        do_apply_function_pullbacks=True,
        do_apply_integral_scaling=True,
        do_apply_geometry_lowering=True,
        preserve_geometry_types=(ufl.classes.Jacobian,),
        do_apply_restrictions=True,
        do_append_everywhere_integrals=False,
    )
    found = set()
    for group in data.integral_data:
        for integral in group.integrals:
            if integral.integral_type() != "cell":
                continue
            if state is not None and state not in extract_coefficients(integral.integrand()):
                continue  # a load
            metadata = integral.metadata()
            degree = metadata.get("quadrature_degree", -1)
            found.add(int(degree if degree >= 0 else np.max(metadata["estimated_polynomial_degree"])))
    if len(found) != 1:
        degrees = ", ".join(map(str, sorted(found))) or "none"
        raise SponError(f"cell integrals with quadrature of degrees {degrees}; allowed: one for a kernel")
    return found.pop()


def _residual(problem: Any, u: Any) -> Any:
    """Return F(u; m) as a form that is assembled with the live inputs; zero forms too."""
    v = ufl.TestFunction(problem.space)
    zero = fem.Constant(problem.space.mesh, np.zeros(u.ufl_shape))
    return problem.residual(u, problem.coefficients.ufl, v) + ufl.inner(zero, v) * ufl.dx


def _residual_at_zero(problem: Any) -> Floats:
    """Return F(0; 0), (DoFs,) in canonical order. Collective."""
    problem.coefficients.set(np.zeros(sum(problem.coefficients.sizes.values())))
    if problem.load is not None:
        problem.load.value = 1.0
    return _gathered(problem, fem.form(_residual(problem, fem.Function(problem.space))))


def _gathered(problem: Any, form: Any) -> Floats:
    vector = petsc.assemble_vector(form)
    vector.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
    out: Floats = problem.order.gather_dual(vector.array_r)
    vector.destroy()
    return out


def _loads(problem: Any, coefficient: str | None) -> sp.csr_array | None:
    """Return −∂F/∂m at u = 0, (DoFs, DoFs of all inputs), None if it is zero. Collective."""
    form = _residual(problem, fem.Function(problem.space))
    inputs, sizes = problem.coefficients, problem.coefficients.sizes
    blocks = []
    found = False
    first = 0
    width = sum(sizes.values())
    for name, size in sizes.items():
        encoder = problem.encoders[name]
        live = inputs.live[name]
        used = [*form.coefficients(), *form.constants()]
        present = name != coefficient and any(
            any(one is item for item in used) for one in (live if isinstance(live, list) else [live])
        )
        if not present:
            blocks.append(sp.csr_array((problem.order.size, size)))
        elif isinstance(encoder, Dofs):
            derivative = ufl.derivative(form, live, ufl.TrialFunction(encoder.live))
            matrix = assembled(derivative)
            whole = problem.order.matrix(matrix, encoder.order)
            matrix.destroy()
            blocks.append(sp.csr_array(-(whole[:, encoder.dofs] if isinstance(encoder, Trace) else whole)))
        else:  # numbers
            zero = _residual_at_zero(problem)
            columns = []
            for k in range(size):
                vector = np.zeros(width)
                vector[first + k] = 1.0
                inputs.set(vector)
                columns.append(zero - _gathered(problem, fem.form(form)))
            blocks.append(sp.csr_array(np.stack(columns, axis=1)))
        found = found or present
        first += size
    if not found:
        return None
    out = sp.csr_array(sp.hstack(blocks, format="csr"))
    out.eliminate_zeros()
    return out


def verify(problem: Any, physics: Physics, seed: int = 0) -> None:
    """Compare the kernel with the residual that DOLFINx assembles, at random states. Collective.

    Args:
        problem: a `Problem` with the inputs of the physics.
        physics: what it says of itself.
        seed: of the input that is drawn.

    Raises:
        SponError: on all ranks: they differ by more than 1e-10 of the largest force, or what `make_kernel`
            raises.
    """
    d = problem.discretisation
    m, rng = _drawn(problem, seed)
    free = d.constraint.Z.shape[1]
    shift = problem.shift(m)
    constraint = d.constraint if shift is None else d.constraint.with_shift(shift)
    u = constraint.expand(rng.uniform(-1.0, 1.0, (1, free)))[0]
    if not problem.linear:
        u = u * _MODULUS / _largest_slope(d.levels[0], u)
    expected, scale = _assembled(problem, u, m)
    with agree(problem.comm):
        difference = np.abs(_of_kernel(d, physics, u, m) - expected).max() / scale
        if not difference <= _TOLERANCE:
            raise SponError(
                f"the {physics.kernel} kernel differs from the assembled residual of "
                f"{type(problem).__name__} by {difference:.2g} of its largest entry; allowed: "
                f"{_TOLERANCE:g}; return None from physics() where no kernel fits"
            )


def _drawn(problem: Any, seed: int) -> tuple[Floats, np.random.Generator]:
    """Return the first inputs that are finite, and a generator. Collective."""
    from spon.data.fields import generator

    for number in range(10):
        rng = generator(seed, number)
        m = problem.vector(problem.sample(rng))
        if np.isfinite(m).all():
            return m, rng
    raise SponError(f"the inputs of samples 0 to 9 (seed {seed}) of {type(problem).__name__} are not finite")


def _largest_slope(level: Any, u: Floats) -> float:
    slopes = level.gradient @ u.reshape(len(level.points), -1)
    return float(np.abs(slopes).max()) * level.gdim


def _of_kernel(discretisation: Any, physics: Physics, u: Floats, m: Floats) -> Floats:
    import torch

    from spon.physics.kernels.make import make_kernel

    kernel = make_kernel(discretisation, physics)
    with torch.no_grad():
        found = kernel.residual(torch.as_tensor(u[None]), torch.as_tensor(m[None]))
    return np.asarray(found[0].numpy())


def _assembled(problem: Any, u: Floats, m: Floats) -> tuple[Floats, float]:
    """Return F(u; m) and the largest entry of F and of the load, which may cancel. Collective."""
    problem.coefficients.set(m)
    if problem.linear:
        problem.system.assemble()
        rhs = problem.order.gather_dual(problem.system.rhs.array_r)
        forces = problem.order.matrix(problem.system.matrix) @ u
        return forces - rhs, float(max(np.abs(forces).max(), np.abs(rhs).max()))
    state = fem.Function(problem.space)
    problem.order.scatter(u, state)
    if problem.load is not None:
        problem.load.value = 1.0
    found = _gathered(problem, fem.form(_residual(problem, state)))
    return found, float(np.abs(found).max())
