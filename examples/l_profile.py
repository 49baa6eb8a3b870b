"""An L-shaped profile as a two-scale problem: strains concentrate at the inner corner.

The profile stands on its foot and is pulled down at its end, in plane strain. As in `cook.py` the microscale
is one line.

Run with `python3 examples/l_profile.py` or `mpirun -n 2 python3 examples/l_profile.py`.
"""

import numpy as np
from mpi4py import MPI

import spon

TRACTION = (0.0, -1.0)  # MPa


def macro(comm):
    """Return the macroscopic problem."""
    mesh = spon.read_mesh(spon.find_mesh("l_profile.geo"), comm)
    space = spon.lagrange(mesh, degree=2, components=2)
    return spon.TwoScaleProblem(mesh, space, {"foot": 0.0}, {"end": TRACTION}, load_steps=2)


def main():
    first = MPI.COMM_WORLD.rank == 0
    microscale = spon.MaterialModel(spon.Deviatoric(K=4780.0, alpha1=50.0, alpha2=0.06))  # MPa
    with macro(MPI.COMM_WORLD) as problem:
        solution = problem.solve(microscale, say=print if first else None)
    values = solution.order.gather(solution.displacement.x.array).reshape(-1, 2)
    nodes = solution.order.canonical.nodes
    end = values[np.linalg.norm(nodes - (100.0, 50.0), axis=1).argmin()]
    reactions = solution.order.gather_dual(solution.reactions).reshape(-1, 2)
    moment = (nodes[:, 0] * reactions[:, 1] - nodes[:, 1] * reactions[:, 0]).sum()
    load = 50 * TRACTION[1]  # N/mm at x = 100 mm
    strain = np.linalg.norm(solution.gather(solution.micro.strain), axis=1)
    at = solution.gather(solution.points.coordinates)[strain.argmax()]
    lines = solution.summary()
    solution.write("l_profile.bp")
    fields = solution.fields
    spon.write("l_profile.png", {name: fields[name] for name in ("u", "stress_yy")},
               units={"u": "mm", "stress_yy": "MPa"})  # fmt: skip
    if first:
        print("\n".join(lines))
        print(f"end          moves by ({end[0]:.5f}, {end[1]:.5f}) mm")
        print(f"reactions    {reactions.sum(axis=0)[1]:.6f} N/mm, moment {moment:.4f} N")
        print(f"strain       up to {strain.max():.4f} at ({at[0]:.2f}, {at[1]:.2f}) mm")
    assert abs(reactions.sum(axis=0)[1] + load) <= 1e-6
    assert abs(moment + 100 * load) <= 1e-4
    assert np.linalg.norm(at - (50.0, 50.0)) <= 1.0


if __name__ == "__main__":
    main()
