"""Iterations for Helmholtz problems in 50 random media: recycled subspaces and sorting against GMRES(40).

Run with `./dev run python3 benchmarks/recycling.py`; writes results/recycling.json and RESULTS.md.
−Δu − k² n u = f on the unit square, ∂u/∂n = i k u, second-order triangles, real and imaginary part as a
vector; a source as wide as a tenth of the square; n = 1 + 0.4 Σ z_j cos cos, z uniform in ±1/√modes; four
wavelengths across. Tolerance 1e-8. Iterations are applications of the preconditioner, products those of the
matrix (GCROT has one for each recycled vector in addition): means over the systems. GMRES(40) and
GCROT(20, 20) are SciPy's, preconditioned from the right, with as many vectors in memory. Speed-up: seconds of
GMRES(40) with the same preconditioner, unsorted, over seconds; factorise / this: seconds of a SuperLU
factorisation and solve of every system over seconds. Processor time of one thread.

What it says: recycling alone saves about a tenth of the iterations of the same method without memory, but
costs a product with each recycled vector. GCROT keeps one direction for each restart, not the approximate
eigenvectors that GCRO-DR takes from a whole cycle: above all it carries over old solutions. Sorting pays with
a preconditioner that is made anew now and then, for few parameters: it halves the iterations, recycling or
not; with twenty parameters fifty samples have no near neighbours.
"""

import argparse
import os
import time

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import ufl
from dolfinx import fem
from fem_layer import simplices
from mpi4py import MPI

import spon
from spon.data.ordering import nearest_neighbour_order
from spon.fem.assembly import assembled, assembled_vector
from spon.fem.canonical import CanonicalOrder
from spon.fem.recycling import RecyclingSolver

RTOL, SYSTEMS = 1e-8, 50


class Helmholtz:
    """Helmholtz problems on one mesh, `waves` wavelengths across."""

    def __init__(self, n, waves, modes, seed=0):
        mesh = spon.TaggedMesh(simplices(2, n), MPI.COMM_SELF)
        space = spon.lagrange(mesh, degree=2, components=2)
        self.order = CanonicalOrder(mesh, space)
        self.constraint = spon.Constraint.none(self.order.size)
        k = 2 * np.pi * waves
        self.medium = fem.Function(spon.lagrange(mesh))
        u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
        turned = ufl.as_vector((u[1], -u[0]))
        self.form = ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx
        self.form += -(k**2) * self.medium * ufl.inner(u, v) * ufl.dx + k * ufl.inner(turned, v) * ufl.ds
        x = ufl.SpatialCoordinate(mesh.dolfinx)
        source = ufl.exp(-200 * ((x[0] - 0.3) ** 2 + (x[1] - 0.4) ** 2))
        self.rhs = assembled_vector(source * v[0] * ufl.dx)
        pairs = sorted(((p, q) for p in range(9) for q in range(9)), key=lambda pq: (sum(pq), pq))[1:]
        self.modes = pairs[:modes]
        self.parameters = np.random.default_rng(seed).uniform(-1, 1, (SYSTEMS, modes)) / np.sqrt(modes)

    def matrix(self, z):
        """Assemble the matrix for a medium of these amplitudes, (modes,)."""

        def medium(x):
            waves = [np.cos(np.pi * p * x[0]) * np.cos(np.pi * q * x[1]) for p, q in self.modes]
            return 1 + 0.4 * np.tensordot(z, waves, axes=1)

        self.medium.interpolate(medium)
        return assembled(self.form)


def gmres(A, b, solve):
    """Return iterations of GMRES(40), preconditioned from the right."""
    steps = []
    operator = spla.LinearOperator(A.shape, matvec=lambda y: A @ solve(y), dtype=float)
    y, info = spla.gmres(
        operator, b, rtol=RTOL, restart=40, maxiter=50, callback=steps.append, callback_type="pr_norm"
    )
    left = np.linalg.norm(b - A @ solve(y)) / np.linalg.norm(b)
    return len(steps), info == 0 and left <= 1.01 * RTOL


def reference(problem, kind, every):
    """Return mean iterations, seconds and failures of GMRES(40), and seconds of factorisations."""
    steps, failures, seconds, direct, solve = [], 0, 0.0, 0.0, np.array
    for i, z in enumerate(problem.parameters):
        A = sp.csr_array(problem.order.matrix(problem.matrix(z)))
        b = problem.order.gather_dual(problem.rhs.array_r)
        start = time.process_time()
        if kind is not None and (i == 0 or (every and i % every == 0)):
            columns = sp.csc_array(A)
            solve = (spla.splu(columns) if kind == "lu" else spla.spilu(columns, 1e-2, 5.0)).solve
        count, good = gmres(A, b, solve)
        seconds += time.process_time() - start
        steps.append(count)
        failures += not good
        start = time.process_time()
        spla.splu(sp.csc_array(A)).solve(b)
        direct += time.process_time() - start
    return np.mean(steps), seconds, failures, direct


def recycled(problem, kind, every, vectors, ordered):
    """Return mean iterations, mean products, seconds and failures of a RecyclingSolver."""
    places = nearest_neighbour_order(problem.parameters) if ordered else np.arange(SYSTEMS)
    seconds, failures = 0.0, 0
    settings = {"rtol": RTOL, "inner": 20, "recycled": vectors, "preconditioner": kind, "every": every}
    with RecyclingSolver(problem.order, problem.constraint, **settings) as solver:
        for z in problem.parameters[places]:
            matrix = problem.matrix(z)
            start = time.process_time()
            try:
                solver.solve(matrix, problem.rhs)
            except spon.SponError:
                failures += 1
            seconds += time.process_time() - start
            matrix.destroy()
        steps = [record.preconditioned for record in solver.log] or [np.nan]
        products = [record.products for record in solver.log] or [np.nan]
    return np.mean(steps), np.mean(products), seconds, failures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small mesh; prints only")
    quick = parser.parse_args().quick
    rows = []
    for modes in (3, 20):
        problem = Helmholtz(16 if quick else 32, 2.0 if quick else 4.0, modes)
        for kind, every in (("lu", 0), ("lu", 10), ("ilu", 0)):
            steps, base, failures, direct = reference(problem, kind, every)
            common = {"modes": modes, "DoFs": problem.order.size}
            common["preconditioner of"] = f"{kind}, {'first' if every == 0 else f'every {every}th'}"
            methods = [("GMRES(40)", "no", steps, steps, base, failures)]
            for vectors, ordered in ((0, False), (0, True), (20, False), (20, True)):
                name = f"GCROT(20, 20){'' if vectors else ', forgetting'}"
                methods.append(
                    (name, "yes" if ordered else "no", *recycled(problem, kind, every, vectors, ordered))
                )
            for name, ordered, iterations, products, seconds, failed in methods:
                row = common | {"method": name, "sorted": ordered, "iterations": float(iterations)}
                row |= {"products": float(products), "not converged": int(failed)}
                rows.append(row | {"speed-up": base / seconds, "factorise / this": direct / seconds})
                print(rows[-1], flush=True)
    if not quick:
        from results import record

        record("recycling", __doc__, rows)
