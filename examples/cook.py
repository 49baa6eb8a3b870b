"""Cook's membrane as a two-scale problem: every quadrature point asks a surrogate of a periodic cell.

A tapered panel of 48 mm, clamped at the left and loaded by a uniform shear traction at the right, in plane
strain (Cook 1974, ASCE J. Struct. Div. 100). At each point is the third cell of Eivazi et al. 2025 (arXiv
2504.07976), a soft matrix with stiff inclusions. Its surrogate learns from a few load cases, which the ranks
share. Where its estimated error is too large, or the strain leaves what it was trained for, the point solves
the cell by finite elements. The matrix alone is solved for comparison: a law is a microscale, too.

Run with `python3 examples/cook.py` or `mpirun -n 2 python3 examples/cook.py`. `spon fe2 run examples/cook.py`
takes the microscale from files.
"""

from pathlib import Path

import numpy as np
import torch
from mpi4py import MPI

import spon

TRACTION = (0.0, 5.0)  # MPa
MATRIX = spon.Deviatoric(K=4780.0, alpha1=50.0, alpha2=0.06)  # MPa
INCLUSION = spon.LinearElastic(K=43452.381, G=29918.0328)  # MPa
TRAINED = 0.022  # components of the strain go from −0.022 to 0.022
ACCEPTED = 0.02  # estimated error of the stress, relative


def macro(comm, mesh=None):
    """Return the macroscopic problem, on the mesh that comes with spon or on another."""
    membrane = spon.read_mesh(mesh or spon.find_mesh("cook.geo"), comm)
    space = spon.lagrange(membrane, degree=2, components=2)
    return spon.TwoScaleProblem(membrane, space, {"left": 0.0}, {"right": TRACTION}, load_steps=2)


def coarse_cell(comm):
    """Return the cell on a coarse mesh, for a quick example. Collective."""
    if comm.rank == 0:
        text = spon.find_mesh("rve3.geo").read_text()
        Path("cell.geo").write_text(text.replace("n = 12;", "n = 4;"))
    laws = {"matrix": MATRIX, "inclusion": INCLUSION}
    return spon.read_rve("cell.geo", laws, comm=comm)  # read by rank 0


def microscale(cell, comm):
    """Return a surrogate of the cell that falls back on the cell. Collective."""
    strains = spon.latin_hypercube(20, 3, TRAINED), spon.latin_hypercube(10, 3, TRAINED, seed=1)
    train, held_back = (spon.take_snapshots(cell, E, comm) for E in strains)
    surrogate = spon.ReducedRVE.fit(cell, train, held_back=held_back, rank=8)
    return spon.WithFallback(surrogate, spon.FEModel(cell), ACCEPTED)


def corner(solution):
    """Return the displacement of the corner at the right, above."""
    values = solution.order.gather(solution.displacement.x.array).reshape(-1, 2)
    return values[np.linalg.norm(solution.order.canonical.nodes - (48.0, 60.0), axis=1).argmin()]


def main():
    comm = MPI.COMM_WORLD
    say = print if comm.rank == 0 else lambda *text: None
    cell = coarse_cell(comm)
    with macro(comm) as problem:
        matrix = problem.solve(spon.MaterialModel(MATRIX))
        solution = problem.solve(microscale(cell, comm), say)
    reactions = solution.order.gather_dual(solution.reactions).reshape(-1, 2).sum(axis=0)
    stress = solution.gather(solution.micro.stress)
    most = np.linalg.norm(stress, axis=1).argmax()
    place, strain = (solution.gather(v)[most] for v in (solution.points.coordinates, solution.micro.strain))
    local = cell.solve(torch.as_tensor(strain)[None])
    say("\n".join(solution.summary()))
    say("corner       moves by ({:.5f}, {:.5f}) mm".format(*corner(solution)))
    say("matrix alone moves by ({:.5f}, {:.5f}) mm".format(*corner(matrix)))
    say(f"reactions    {reactions[0]:.2e}, {reactions[1]:.6f} N/mm; load {16 * TRACTION[1]:g} N/mm")
    say(f"fallback     at {solution.fallback} of {len(stress)} points")
    say(
        f"largest      stress at ({place[0]:.2f}, {place[1]:.2f}) mm, strain "
        + "{:.4f}, {:.4f}, {:.4f}".format(*strain)
    )
    solution.write("cook.bp")
    names = ("u", "stress_xx", "stress_yy", "stress_xy")
    units = dict(zip(names, ("mm", "MPa", "MPa", "MPa"), strict=True))
    spon.write("cook.png", {name: solution.fields[name] for name in names}, units=units)
    if comm.rank == 0:
        spon.write_local_fields("cook_cell.png", cell, torch.as_tensor(strain), local.fluctuation[0])
    error = np.linalg.norm(stress[most] - local.stress[0].numpy()) / np.linalg.norm(stress[most])
    say(f"there        the cell's stress is within {error:.1e}")
    assert np.abs(reactions + 16 * np.array(TRACTION)).max() <= 1e-6
    assert error <= ACCEPTED


if __name__ == "__main__":
    main()
