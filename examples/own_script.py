"""Bring your DOLFINx script: from a finished solve to a discretisation in ten lines.

The first part is a script as it might lie on your disk: the membrane of DOLFINx's Poisson demo, with its own
mesh, boundary conditions and solver. The second part turns its mesh and space into a `Discretisation`,
and shows that it holds what the script computed: the energy norm of the solution, and the decoder
whose output has the script's boundary values whatever a network says.

Run with `python3 examples/own_script.py` or `mpirun -n 2 python3 examples/own_script.py`.
"""

import numpy as np
import ufl
from dolfinx import fem, mesh
from dolfinx.fem import petsc
from mpi4py import MPI
from petsc4py import PETSc

# ------------------------------------------------------------------ your script
domain = mesh.create_rectangle(MPI.COMM_WORLD, [[0.0, 0.0], [2.0, 1.0]], [32, 16], mesh.CellType.triangle)
V = fem.functionspace(domain, ("Lagrange", 2))


def ends(x):
    return np.isclose(x[0], 0.0) | np.isclose(x[0], 2.0)


facets = mesh.locate_entities_boundary(domain, 1, ends)
bc = fem.dirichletbc(PETSc.ScalarType(0), fem.locate_dofs_topological(V, 1, facets), V)
u, v, x = ufl.TrialFunction(V), ufl.TestFunction(V), ufl.SpatialCoordinate(domain)
f = 10 * ufl.exp(-((x[0] - 0.5) ** 2 + (x[1] - 0.5) ** 2) / 0.02)
a = ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx
L = ufl.inner(f, v) * ufl.dx + ufl.inner(ufl.sin(5 * x[0]), v) * ufl.ds
A, b = petsc.assemble_matrix(fem.form(a), bcs=[bc]), petsc.assemble_vector(fem.form(L))
A.assemble()
b.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
petsc.set_bc(b, [bc])
solver = PETSc.KSP().create(domain.comm)
solver.setOperators(A)
solver.setType("cg")
solver.getPC().setType("jacobi")
solver.setTolerances(rtol=1e-12)
uh = fem.Function(V)
solver.solve(b, uh.x.petsc_vec)
uh.x.scatter_forward()
uh.name = "u"

# -------------------------------------------------------------------- ten lines
import spon  # noqa: E402

tagged = spon.from_dolfinx(domain, boundaries={"ends": ends})
levels = spon.Hierarchy.algebraic(tagged, levels=2)
constraint = spon.dirichlet(tagged, V, {"ends": 0.0})
load = spon.Projection(tagged, fem.functionspace(domain, ("Lagrange", 1)))
made = spon.discretise(levels, V, constraint, inputs={"f": load}, energy=a)
if domain.comm.rank == 0:
    made.save("own_script.h5")

# ---------------------------------------------------------------- what it holds
values, source = spon.Dofs(tagged, V)(uh), load(f)
energy = domain.comm.allreduce(fem.assemble_scalar(fem.form(ufl.inner(ufl.grad(uh), ufl.grad(uh)) * ufl.dx)))
difference = abs(values @ (made.output.energy @ values) - energy) / energy
total = source @ made.input.mass.sum(axis=1)
nodal = np.random.default_rng(0).standard_normal(made.cutoff.shape)
random = made.decoder @ (made.cutoff * nodal).ravel() + made.constraint.shift
boundary = np.abs(random[made.boundary_dofs["ends"]]).max()
spon.write("own_script.vtu", spon.CanonicalOrder(tagged, V), {"u": values, "random": random})
if domain.comm.rank == 0:
    print(f"levels    {' > '.join(str(len(level.points)) for level in made.levels)} nodes")
    print(f"input     f projected to {made.input.element}: {len(source)} DoFs, ∫ f = {total:.6f}")
    print(f"energy    of the solution by the frozen matrix: differs by {difference:.1e}")
    print(f"boundary  values of random network output: differ by {boundary:.1e}")
assert difference <= 1e-12
assert boundary == 0.0
