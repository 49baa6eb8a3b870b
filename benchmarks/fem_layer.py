"""Seconds and bytes to build, save and load a discretisation of first-order Lagrange functions.

Run with `./dev run python3 benchmarks/fem_layer.py`; writes results/fem_layer.json and RESULTS.md.
Build: a structured mesh refined up to the size (2-D: three times, 3-D: once), spaces, constraint, all
matrices, cut-off and lift. Each row is a process (or two ranks) of its own, one thread each, after a small
build that compiles the forms; peak memory is that of the largest process, Python and libraries included
(0.2 GiB before the build). Growth: microseconds per DoF over their mean in all 2-D rows of as many ranks.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import permutations
from pathlib import Path

import numpy as np

SIZES = ((2, 100), (2, 316), (2, 1000), (3, 46))
REFINEMENTS = {2: 3, 3: 1}


def simplices(dim, n):
    """Unit square or cube of n boxes in each direction, two triangles or six tetrahedra each."""
    import spon

    eye = np.eye(dim, dtype=int)
    paths = [np.cumsum([0 * eye[0], *eye[list(p)]], axis=0) for p in permutations(range(dim))]
    boxes = np.stack(np.meshgrid(*[np.arange(n)] * dim, indexing="ij"), -1).reshape(-1, 1, 1, dim)
    grid = (boxes + np.array(paths)).reshape(-1, dim + 1, dim)
    cells = grid @ (n + 1) ** np.arange(dim)[::-1]
    axis = np.linspace(0, 1, n + 1)
    points = np.stack(np.meshgrid(*[axis] * dim, indexing="ij"), -1).reshape(-1, dim)
    sides = np.concatenate([np.delete(cells, k, axis=1) for k in range(dim + 1)])
    left, right = ((points[sides][:, :, 0] == x).all(axis=1) for x in (0.0, 1.0))
    return spon.MeshArrays(
        points=points,
        cells=cells,
        cell_type={2: "triangle", 3: "tetrahedron"}[dim],
        cell_tags=np.ones(len(cells), np.int32),
        facets=np.concatenate([sides[left], sides[right]]),
        facet_tags=np.repeat(np.int32([1, 2]), [left.sum(), right.sum()]),
        cell_names={"body": 1},
        facet_names={"left": 1, "right": 2},
    )


def build(dim, n):
    from mpi4py import MPI

    import spon

    refinements = REFINEMENTS[dim]
    coarse = spon.TaggedMesh(simplices(dim, n // 2**refinements), MPI.COMM_WORLD)
    hierarchy = spon.Hierarchy.uniform(coarse, refinements)
    space = spon.lagrange(hierarchy.finest)
    constraint = spon.dirichlet(hierarchy.finest, space, {"left": 0.0, "right": lambda x: x[1]})
    return spon.discretise(hierarchy, space, constraint)


def measure(dim, n):
    """Build once in this process; rank 0 prints a line of JSON."""
    from mpi4py import MPI

    import spon

    comm = MPI.COMM_WORLD
    build(dim, 2 ** REFINEMENTS[dim])
    comm.Barrier()
    start = time.perf_counter()
    made = build(dim, n)
    comm.Barrier()
    seconds = time.perf_counter() - start
    peak = comm.reduce(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, MPI.MAX)
    if comm.rank == 0:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "discretisation.h5"
            start = time.perf_counter()
            made.save(path)
            saving = time.perf_counter() - start
            size, start = path.stat().st_size, time.perf_counter()
            spon.Discretisation.load(path)
            loading = time.perf_counter() - start
        print(json.dumps([made.dofs, seconds, peak, saving, loading, size]))


def row(dim, n, ranks):
    command = ["mpirun", "-n", str(ranks), sys.executable, __file__, "--one", str(dim), str(n)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    dofs, seconds, peak, saving, loading, size = json.loads(done.stdout.splitlines()[-1])
    return {
        "space": f"P1 {dim}-D",
        "DoFs": dofs,
        "ranks": ranks,
        "build, s": seconds,
        "build, µs per DoF": 1e6 * seconds / dofs,
        "peak, GiB": peak,
        "save, s": saving,
        "load, s": loading,
        "file, bytes per DoF": size / dofs,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", nargs=2, type=int, metavar=("DIM", "N"), help="one build in this process")
    chosen = parser.parse_args().one
    if chosen:
        measure(*chosen)
        sys.exit()
    from results import record

    rows = [row(dim, n, ranks) for ranks in (1, 2) for dim, n in SIZES]
    for r in rows:
        alike = [q["build, µs per DoF"] for q in rows if (q["space"], q["ranks"]) == (r["space"], r["ranks"])]
        r["growth"] = r["build, µs per DoF"] / statistics.mean(alike) if len(alike) > 1 else "-"
    record("fem_layer", __doc__, rows)
