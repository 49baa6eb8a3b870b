"""Stokes flow around obstacles in a channel, divergence-free at every point.

Find u with −Δu + ∇p = 0 and div u = 0, u = (4y(1 − y), 0) at the inlet and the outlet, u = 0 on the
walls and the holes. u is u_g plus the curl of a stream function: div u = 0 and u·n on all boundaries hold
exactly, and the pressure drops out. The tangential component of an H(div) space jumps: interior penalty
and Nitsche's method (Cockburn, Kanschat & Schötzau 2007, J. Sci. Comput. 31) make it continuous and set
it on the boundary.

Run with `python3 examples/stokes.py` or `mpirun -n 2 python3 examples/stokes.py`.
"""

import numpy as np
import ufl
from dolfinx import fem
from mpi4py import MPI

import spon

HOLES = ("circle", "slot", "triangle")
PENALTY = 27.0

mesh = spon.Hierarchy.uniform(spon.read_mesh(spon.find_mesh("plate.geo")), refinements=1).finest
space = fem.functionspace(mesh.dolfinx, ("RT", 3))
order = spon.CanonicalOrder(mesh, space)

# u·n on all boundaries, carried by the smallest divergence-free field that has it
flow = dict.fromkeys((*HOLES, "bottom", "top"), 0.0)
flow["left"] = flow["right"] = lambda x: np.stack([4 * x[1] * (1 - x[1]), 0 * x[0]])
data = spon.dirichlet(mesh, space, flow)
pressures = fem.functionspace(mesh.dolfinx, ("DG", 2))
shift = spon.divergence_free_projection(mesh, space, pressures, data).lift(data.shift)
constraint = spon.divergence_free(mesh, space, impermeable=list(flow)).with_shift(shift)

u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
x, n, h = ufl.SpatialCoordinate(mesh.dolfinx), ufl.FacetNormal(mesh.dolfinx), ufl.CellDiameter(mesh.dolfinx)
grad, inner, outer = ufl.grad, ufl.inner, ufl.outer


def jump(w):
    return outer(w("+"), n("+")) + outer(w("-"), n("-"))


a = inner(grad(u), grad(v)) * ufl.dx
a += PENALTY / ufl.avg(h) * inner(jump(u), jump(v)) * ufl.dS
a -= (inner(ufl.avg(grad(u)), jump(v)) + inner(jump(u), ufl.avg(grad(v)))) * ufl.dS
a += (PENALTY / h * inner(u, v) - inner(grad(u), outer(v, n)) - inner(outer(u, n), grad(v))) * ufl.ds
inlet = ufl.as_vector((4 * x[1] * (1 - x[1]), 0.0))
ends = mesh.ds("left") + mesh.ds("right")
L = (PENALTY / h * inner(inlet, v) - inner(outer(inlet, n), grad(v))) * ends
u = spon.solve(order, a, L, constraint)


def total(form):
    return mesh.comm.allreduce(fem.assemble_scalar(fem.form(form)))


size = np.sqrt(total(inner(grad(u), grad(u)) * ufl.dx))
divergence = np.sqrt(total(ufl.div(u) ** 2 * ufl.dx)) / size
inflow, outflow = (total(ufl.dot(u, n) * mesh.ds(side)) for side in ("left", "right"))
leak = np.sqrt(sum(total(ufl.dot(u, n) ** 2 * mesh.ds(name)) for name in (*HOLES, "bottom", "top")))

# the stream function of u: a free constant on each hole, which says how much flows below it
full = spon.divergence_free(mesh, space)
psi = full.latent.selection @ full.free(order.gather(u.x.array)[None])[0]


def on(name):
    arrays = mesh.arrays
    values = psi[arrays.facets[arrays.facet_tags == arrays.facet_names[name]]]
    assert np.ptp(values) <= 1e-10
    return values.mean()


flux = on("top") - on("bottom")
below = {name: on(name) - on("bottom") for name in HOLES}
if MPI.COMM_WORLD.rank == 0:
    print(f"divergence     {divergence:.1e} of the gradient")
    print(f"flux           {-inflow:.6f} in, {outflow:.6f} out, {flux:.6f} by the stream function")
    print(f"flow into wall {leak:.1e}")
    for name, part in below.items():
        print(f"constant on {name:9s}{part:.5f}: {part / flux:.2%} of the flow passes below")
assert divergence <= 1e-12
assert leak <= 1e-12
assert max(abs(flux - 2 / 3), abs(inflow + 2 / 3), abs(outflow - 2 / 3)) <= 1e-10

stream = spon.CanonicalOrder(mesh, spon.lagrange(mesh, 3))
fields = {"u": (order, order.gather(u.x.array)), "psi": (stream, psi)}
spon.write("stokes.bp", fields)
spon.write("stokes.png", fields)
