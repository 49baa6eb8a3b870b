"""Effective conductivity of a checkerboard: a periodic cell problem.

Find the periodic w of mean zero with ∫ κ (e + ∇w)·∇v = 0 for all periodic v; the effective conductivity
in the direction e is ∫ κ |e + ∇w|² over the unit cell. For a checkerboard it is √(κ₁ κ₂) (Keller 1964,
J. Math. Phys. 5; Dykhne 1971, Sov. Phys. JETP 32). Every admissible w gives an upper bound κ_h, and
exchanging the two phases gives the lower bound κ₁ κ₂ / κ_h.

Run with `python3 examples/periodic.py` or `mpirun -n 2 python3 examples/periodic.py`.
"""

import numpy as np
import ufl
from dolfinx import fem
from mpi4py import MPI

import spon

WHITE, BLACK = 1.0, 10.0  # W/(m K)

# a mesh whose phases and sides have names, refined twice
coarse = spon.read_mesh(spon.find_mesh("cell.geo"))
mesh = spon.Hierarchy.uniform(coarse, refinements=2).finest

# the conductivity, one value in each cell of the mesh
cells = spon.CanonicalOrder(mesh, fem.functionspace(mesh.dolfinx, ("DG", 0)))
kappa = fem.Function(cells.space)
white = mesh.arrays.cell_tags == mesh.arrays.cell_names["white"]
cells.scatter(np.where(white, WHITE, BLACK), kappa)

# w is periodic whatever the solver does; its mean is fixed by the nullspace
space = fem.functionspace(mesh.dolfinx, ("Lagrange", 2))
order = spon.CanonicalOrder(mesh, space)
constraint = spon.periodic(mesh, space, {"left": "right", "bottom": "top"})
w, v = ufl.TrialFunction(space), ufl.TestFunction(space)
e = ufl.as_vector((1.0, 0.0))
a = kappa * ufl.inner(ufl.grad(w), ufl.grad(v)) * ufl.dx
L = -kappa * ufl.inner(e, ufl.grad(v)) * ufl.dx
options = {"ksp_type": "cg", "pc_type": "hypre", "ksp_rtol": 1e-10}
w = spon.solve(order, a, L, constraint, options=options, nullspace="constants")

energy = fem.form(kappa * ufl.inner(e + ufl.grad(w), e + ufl.grad(w)) * ufl.dx)
effective = mesh.comm.allreduce(fem.assemble_scalar(energy))
mean = mesh.comm.allreduce(fem.assemble_scalar(fem.form(w * ufl.dx)))
values = order.gather(w.x.array)
jump = constraint.violation(values[None])[0]
exact = np.sqrt(WHITE * BLACK)
if MPI.COMM_WORLD.rank == 0:
    print(f"effective conductivity {effective:.5f} W/(m K), exact {exact:.5f}")
    print(f"lower bound            {WHITE * BLACK / effective:.5f}")
    print(f"mean of w              {mean:.1e}")
    print(f"periodic jump          {jump:.1e}")
assert WHITE * BLACK / effective <= exact <= effective <= 1.01 * exact
assert abs(mean) <= 1e-14
assert jump <= 1e-15

spon.write("periodic.vtu", order, {"w": values})
