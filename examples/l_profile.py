"""An L-shaped profile as a two-scale problem: strains concentrate at the inner corner.

The profile stands on its foot and is pulled down at its end, in plane strain; every quadrature point asks a
surrogate of a periodic cell, as in `cook.py`. The surrogate is trained for the strains of the profile's arms.
At the corner they are larger: there, and nowhere else, the points solve the cell by finite elements.

Run with `python3 examples/l_profile.py` or `mpirun -n 2 python3 examples/l_profile.py`.
"""

from pathlib import Path

import numpy as np
import torch
from mpi4py import MPI

import spon

TRACTION = (0.0, -1.0)  # MPa
MATRIX = spon.Deviatoric(K=4780.0, alpha1=50.0, alpha2=0.06)  # MPa
INCLUSION = spon.LinearElastic(K=43452.381, G=29918.0328)  # MPa
TRAINED = 0.02  # components of the strain go from −0.02 to 0.02
ACCEPTED = 0.02  # estimated error of the stress, relative


def macro(comm):
    """Return the macroscopic problem."""
    profile = spon.read_mesh(spon.find_mesh("l_profile.geo"), comm)
    space = spon.lagrange(profile, degree=2, components=2)
    return spon.TwoScaleProblem(profile, space, {"foot": 0.0}, {"end": TRACTION}, load_steps=2)


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


def main():
    comm = MPI.COMM_WORLD
    say = print if comm.rank == 0 else lambda *text: None
    cell = coarse_cell(comm)
    with macro(comm) as problem:
        solution = problem.solve(microscale(cell, comm), say)
    nodes = solution.order.canonical.nodes
    values = solution.order.gather(solution.displacement.x.array).reshape(-1, 2)
    end = values[np.linalg.norm(nodes - (100.0, 50.0), axis=1).argmin()]
    reactions = solution.order.gather_dual(solution.reactions).reshape(-1, 2)
    moment = (nodes[:, 0] * reactions[:, 1] - nodes[:, 1] * reactions[:, 0]).sum()
    load = 50 * TRACTION[1]  # N/mm at x = 100 mm
    micro = solution.micro
    strain, stress, doubt = map(solution.gather, (micro.strain, micro.stress, micro.fallback))
    places = solution.gather(solution.points.coordinates)
    most = np.linalg.norm(strain, axis=1).argmax()
    away = np.linalg.norm(places[doubt] - (50.0, 50.0), axis=1).max(initial=0.0)
    say("\n".join(solution.summary()))
    say(f"end          moves by ({end[0]:.5f}, {end[1]:.5f}) mm")
    say(f"reactions    {reactions.sum(axis=0)[1]:.6f} N/mm, moment {moment:.4f} N")
    x, y = places[most]
    say(f"strain       up to {np.linalg.norm(strain[most]):.4f} at ({x:.2f}, {y:.2f}) mm")
    say(f"fallback     at {solution.fallback} of {len(strain)} points, within {away:.2f} mm of the corner")
    solution.write("l_profile.bp")
    fields = {name: solution.fields[name] for name in ("u", "stress_yy")}
    spon.write("l_profile.png", fields, units={"u": "mm", "stress_yy": "MPa"})
    local = cell.solve(torch.as_tensor(strain[most])[None])
    if comm.rank == 0:
        spon.write_local_fields(
            "l_profile_cell.png", cell, torch.as_tensor(strain[most]), local.fluctuation[0]
        )
    error = np.linalg.norm(stress[most] - local.stress[0].numpy()) / np.linalg.norm(stress[most])
    say(f"there        the cell's stress is within {error:.1e}")
    assert abs(reactions.sum(axis=0)[1] + load) <= 1e-6
    assert abs(moment + 100 * load) <= 1e-4
    assert np.linalg.norm(places[most] - (50.0, 50.0)) <= 1.0
    assert away <= 10.0
    assert error <= 1e-6  # solved by finite elements


if __name__ == "__main__":
    main()
