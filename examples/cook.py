"""Cook's membrane as a two-scale problem: every quadrature point asks a microscale.

A tapered panel of 48 mm, clamped at the left and loaded by a uniform shear traction at the right, in plane
strain (Cook 1974, ASCE J. Struct. Div. 100, with a nonlinear law). The microscale is one line: here a
homogeneous cell of the deviatoric law of Eivazi et al. 2025 (arXiv 2504.07976); a surrogate or the
finite-element model of a cell take its place. `spon fe2 run examples/cook.py` takes them from files.

Run with `python3 examples/cook.py` or `mpirun -n 2 python3 examples/cook.py`.
"""

import numpy as np
from mpi4py import MPI

import spon

TRACTION = (0.0, 5.0)  # MPa


def macro(comm):
    """Return the macroscopic problem."""
    mesh = spon.read_mesh(spon.find_mesh("cook.geo"), comm)
    space = spon.lagrange(mesh, degree=2, components=2)
    return spon.TwoScaleProblem(mesh, space, {"left": 0.0}, {"right": TRACTION}, load_steps=2)


def main():
    first = MPI.COMM_WORLD.rank == 0
    microscale = spon.MaterialModel(spon.Deviatoric(K=4780.0, alpha1=50.0, alpha2=0.06))  # MPa
    with macro(MPI.COMM_WORLD) as problem:
        solution = problem.solve(microscale, say=print if first else None)
    values = solution.order.gather(solution.displacement.x.array).reshape(-1, 2)
    nodes = solution.order.canonical.nodes
    corner = values[np.linalg.norm(nodes - (48.0, 60.0), axis=1).argmin()]
    reactions = solution.order.gather_dual(solution.reactions).reshape(-1, 2).sum(axis=0)
    strain = np.abs(solution.gather(solution.micro.strain)).max(axis=0)
    lines = solution.summary()
    solution.write("cook.bp")
    fields = solution.fields
    spon.write("cook.png", {name: fields[name] for name in ("u", "stress_xx", "stress_yy", "stress_xy")},
               units={"u": "mm", "stress_xx": "MPa", "stress_yy": "MPa", "stress_xy": "MPa"})  # fmt: skip
    if first:
        print("\n".join(lines))
        print(f"corner       moves by ({corner[0]:.5f}, {corner[1]:.5f}) mm")
        print(f"reactions    {reactions[0]:.2e}, {reactions[1]:.6f} N/mm; load {16 * TRACTION[1]:g} N/mm")
        print(f"strains up to {strain[0]:.4f} xx, {strain[1]:.4f} yy, {strain[2]:.4f} xy")
    assert np.abs(reactions + 16 * np.array(TRACTION)).max() <= 1e-6


if __name__ == "__main__":
    main()
