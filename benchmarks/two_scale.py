"""Cook's membrane with a cell at every point: surrogates (FE-OL) against the solved cell (FE²).

Run with `./dev run python3 benchmarks/two_scale.py`; the solution by FE² is kept in the cache folder.

examples/cook.py at another traction, in one load step from rest, on one core: quadrilaterals of second
order with nine points each, RVE 3 (meshes/rve3.geo) at every point. FE² is tuned: factorisations are
reused, each point starts from its last fluctuation, and the tangent comes from the last factor. Both run
the whole Newton iteration to the same tolerance, nothing is scaled. Seconds are those of the processor; the
seconds of FE-OL are the least of three runs. Columns: times "faster": seconds of FE² over those of FE-OL;
"micro": the share of FE-OL's seconds that the surrogate takes, the rest is the macroscopic problem's own;
u, σ: differences from FE² in %, relative, in the Euclidean norm over the nodes and weighted over the
points; "points above": share, in %, of every eighth point whose stress is further from the cell solved at
the same strain than "threshold", relative; "fallback": points that were solved by finite elements in the
last iteration, since their indicator exceeds the threshold or their strain leaves the trained box
(ConvexPotential, whose indicator knows the size of the stress alone, has no such row). Offline: 40
snapshots to learn from, 20 to calibrate indicators on; seconds of both and of the making of the surrogate.
"""

import argparse
import importlib.util
import sys
import time
from pathlib import Path

import numpy as np
import torch
from mpi4py import MPI
from results import record

import spon

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path.home() / ".cache" / "spon" / "benchmarks"
LAWS = {
    "matrix": spon.Deviatoric(K=4780.0, alpha1=50.0, alpha2=0.06),
    "inclusion": spon.LinearElastic(K=43452.381, G=29918.0328),
}
LIMIT, SNAPSHOTS, HELD_BACK, MODES = 0.04, 40, 20, 16
RUNS, EVERY = 3, 8
SURROGATES = {"ReducedRVE": True, "NeuralGalerkin": True, "ConvexPotential": False}  # tells strains apart


def cook(traction):
    """Return the problem of examples/cook.py at a traction, in one load step."""
    spec = importlib.util.spec_from_file_location("cook", ROOT / "examples" / "cook.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.TRACTION = (0.0, traction)
    problem = example.macro(MPI.COMM_SELF)
    problem.load_steps = 1
    return problem


class Counted:
    """A microscale that says how far it is, and what processor time its calls take."""

    def __init__(self, model, size=0):
        self.model, self.strain_size, self.seconds, self.size = model, model.strain_size, 0.0, size

    def respond(self, strain, where=None):
        """Ask in parts of `size` points."""
        start = time.process_time()
        answer = self.model.respond(strain, where)
        self.seconds += time.process_time() - start
        if self.size:
            print(f"  {len(strain)} points, {self.seconds:.0f} s so far", flush=True)
        return answer


def solve(problem, model, loud=False):
    """Return solution, processor seconds, and those of the microscale."""
    counted = Counted(model, int(loud))
    start = time.process_time()
    solution = problem.solve(counted, print if loud else None)
    return solution, time.process_time() - start, counted.seconds


def reference(problem, rve, path):
    """Return displacements, stresses, seconds and iterations of FE², solved where the file is missing."""
    if not path.exists():
        solution, seconds, micro = solve(problem, spon.FEModel(rve), loud=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, u=solution.displacement.x.array, stress=solution.micro.stress, seconds=seconds,
                 micro=micro, iterations=solution.iterations, calls=solution.calls)  # fmt: skip
    return dict(np.load(path).items())


def snapshots(rve, cache):
    """Return snapshots, those held back, and processor seconds that they took."""
    path = cache / f"two-scale-snapshots-{rve.dofs}.npz"
    files = [path.with_suffix(f".{k}.h5") for k in ("train", "held")]
    if not path.exists():
        start = time.process_time()
        for file, count, seed in zip(files, (SNAPSHOTS, HELD_BACK), (0, 1), strict=True):
            spon.take_snapshots(rve, spon.latin_hypercube(count, 3, LIMIT, seed=seed)).save(file)
        np.savez(path, seconds=time.process_time() - start)
    return *(spon.Snapshots.load(file) for file in files), float(np.load(path)["seconds"])


def relative(difference, whole, weights=None):
    """Return a relative norm, in %, weighted over the first axis."""
    if weights is None:
        weights = np.ones(len(whole))
    return 100 * float(np.sqrt((weights @ difference**2).sum() / (weights @ whole**2).sum()))


def rows(options):
    """Return the table."""
    rve = spon.read_rve(cell(options), LAWS)
    fitted, held, offline = snapshots(rve, options.cache)
    with cook(options.traction) as problem:
        path = options.cache / f"two-scale-fe2-{rve.dofs}-{options.traction:g}.npz"
        fe2 = reference(problem, rve, path)
        weights = problem.points.weights.ravel()
        common = {"cell DoFs": rve.dofs, "points": len(weights)}
        yield common | {
            "microscale": "cell (FE²)", "threshold": "-", "iterations": int(fe2["iterations"]),
            "seconds": float(fe2["seconds"]), "micro": float(fe2["micro"] / fe2["seconds"]), "faster": 1.0,
            "u, %": 0.0, "σ, %": 0.0, "points above, %": 0.0, "fallback": "-", "offline, s": 0.0,
        }  # fmt: skip
        for name, tells in SURROGATES.items():
            start = time.process_time()
            surrogate = getattr(spon, name).fit(rve, fitted, held_back=held, rank=MODES)
            made = offline + time.process_time() - start
            for threshold in (None, options.threshold)[: 1 + tells]:
                model = surrogate
                if threshold is not None:
                    model = spon.WithFallback(surrogate, spon.FEModel(rve), threshold)
                solution, seconds, micro = solve(problem, model)
                for _ in range(0 if threshold else RUNS - 1):
                    again = solve(problem, model)
                    if again[1] < seconds:
                        solution, seconds, micro = again
                above = distance(rve, solution) > options.threshold
                yield common | {
                    "microscale": name + (" + fallback" if threshold else ""),
                    "threshold": options.threshold,
                    "iterations": solution.iterations,
                    "seconds": seconds,
                    "micro": micro / seconds,
                    "faster": float(fe2["seconds"]) / seconds,
                    "u, %": relative(
                        solution.displacement.x.array - fe2["u"], fe2["u"], np.ones(len(fe2["u"]))
                    ),
                    "σ, %": relative(solution.micro.stress - fe2["stress"], fe2["stress"], weights),
                    "points above, %": 100 * float(above.mean()),
                    "fallback": solution.fallback if threshold is not None else "-",
                    "offline, s": made,
                }


def distance(rve, solution):
    """Return ‖σ − σ(cell)‖ / ‖σ(cell)‖ at every eighth point, with the cell solved at its strain."""
    strain = torch.as_tensor(solution.micro.strain[::EVERY])
    exact = spon.FEModel(rve).respond(strain)
    assert not exact.failed.any()
    found = torch.as_tensor(solution.micro.stress[::EVERY])
    return ((found - exact.stress).norm(dim=1) / exact.stress.norm(dim=1)).numpy()


def cell(options):
    """Return the mesh of RVE 3, with a number of intervals."""
    text = spon.find_mesh("rve3.geo").read_text()
    path = options.cache / f"rve3-{options.n}.geo"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace("n = 12;", f"n = {options.n};"))
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--n", type=int, default=15, help="intervals on a side of the cell (15: as published)"
    )
    parser.add_argument("--traction", type=float, default=8.0, help="MPa")
    parser.add_argument("--threshold", type=float, default=1e-3, help="of the indicator")
    parser.add_argument("--cache", type=Path, default=CACHE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for row in rows(options):
        found.append(row)
        print(row, flush=True)
    record("two_scale", __doc__, found)


if __name__ == "__main__":
    sys.exit(main())
