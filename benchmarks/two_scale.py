"""Cook's membrane with a cell at every point: surrogates (FE-OL) against the solved cell (FE²).

Run with `./dev run python3 benchmarks/two_scale.py`; the solution by FE² is kept in the cache folder.

The problem of examples/cook.py at another traction, in one load step from rest, on one core: quadrilaterals
of second order with nine points each, RVE 3 (meshes/rve3.geo) at every point. FE² is tuned: a factor serves
many cells; a point starts from its last fluctuation and its sensitivity to the strain; the tangent's linear
system is the last step of Newton's method, so the cell's equilibrium is solved to 1e-4 and the stress is off
by its square; a body at rest asks once, as with surrogates. Both run the whole Newton iteration to the same
tolerance, nothing is scaled. Seconds are those of the processor, the least of five runs for surrogates alone.
On finer macroscopic meshes FE² and fallbacks are not run.

Columns: "micro" and "macro": seconds of the microscale, and of all else: strains, forces, stiffness, linear
systems, line search; "µs": of the microscale for each answer, stress with tangent; times "faster": seconds of
FE² over those of FE-OL; u, σ: differences from FE² in %, relative, in the Euclidean norm over the nodes and
weighted over the points; "points above": share, in %, of every eighth point whose stress is further from the
cell solved at the same strain than "threshold", relative; "fallback": points that were solved by finite
elements in the last iteration, since their indicator exceeds the threshold or their strain leaves the trained
box (ConvexPotential, whose indicator knows the size of the stress alone, has no such row). Offline: 40
snapshots to learn from, 20 to calibrate indicators on; seconds of both and of the making of the surrogate.
"""

import argparse
import ast
import hashlib
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
LIMIT, SNAPSHOTS, HELD_BACK = 0.04, 40, 20
RUNS, EVERY = 5, 8
SURROGATES = {"ReducedRVE": True, "NeuralGalerkin": True, "ConvexPotential": False}  # tells strains apart


def cook(options, refined=1):
    """Return the problem of examples/cook.py at a traction, in one load step, on a mesh times finer."""
    spec = importlib.util.spec_from_file_location("cook", ROOT / "examples" / "cook.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.TRACTION = (0.0, options.traction)
    text = spon.find_mesh("cook.geo").read_text()
    for shown, intervals in zip((" = 17;", " = 15;"), options.macro, strict=True):
        assert text.count(shown) == 1
        text = text.replace(shown, f" = {refined * intervals + 1};")
    path = options.cache / f"cook-{options.macro[0]}x{options.macro[1]}-{refined}.geo"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    problem = example.macro(MPI.COMM_SELF, path)
    problem.load_steps = 1
    return problem


class Counted:
    """A microscale that says how far it is, and what processor time its calls take."""

    def __init__(self, model, loud=False):
        self.model, self.strain_size, self.loud = model, model.strain_size, loud
        self.uniform = getattr(model, "uniform", False)
        self.seconds = self.answers = 0

    def respond(self, strain, where=None):
        """Ask the model."""
        start = time.process_time()
        answer = self.model.respond(strain, where)
        self.seconds += time.process_time() - start
        self.answers += len(strain)
        if self.loud:
            print(f"  {len(strain)} points, {self.seconds:.0f} s so far", flush=True)
        return answer


def solve(problem, model, loud=False):
    """Return solution, and seconds: of the processor, of these the microscale's, and for each answer."""
    counted = Counted(model, loud)
    start = time.process_time()
    solution = problem.solve(counted, print if loud else None)
    seconds = time.process_time() - start
    return solution, (seconds, counted.seconds, counted.seconds / counted.answers)


def fingerprint():
    """Return a number that changes with the code of FE², not with its comments and docstrings."""
    found = hashlib.sha256()
    for name in ("fe_model", "rve_solver", "rve_linear", "rve_assembly", "factorisation", "macro_newton"):
        tree = ast.parse((ROOT / "spon" / "multiscale" / f"{name}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
                del node.body[0]
        found.update(ast.dump(tree).encode())
    return found.hexdigest()[:12]


def reference(problem, rve, options):
    """Return displacements, stresses, seconds and iterations of FE², solved where the file is missing."""
    name = f"{rve.dofs}-{options.macro[0]}x{options.macro[1]}-{options.traction:g}-{fingerprint()}"
    path = options.cache / f"two-scale-fe2-{name}.npz"
    if not path.exists():
        model = spon.FEModel(rve)
        solution, seconds = solve(problem, model, loud=True)
        np.savez(path, u=solution.displacement.x.array, stress=solution.micro.stress, seconds=seconds,
                 iterations=solution.iterations, steps=model.iterations / model.solved)  # fmt: skip
        print(f"  {model.iterations / model.solved:.2f} steps of Newton's method in each cell", flush=True)
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


def relative(difference, whole, weights):
    """Return a relative norm, in %, weighted over the first axis."""
    return 100 * float(np.sqrt((weights @ difference**2).sum() / (weights @ whole**2).sum()))


def rows(options):
    """Return the table."""
    rve = spon.read_rve(cell(options), LAWS)
    fitted, held, offline = snapshots(rve, options.cache)
    made = {}
    for name in SURROGATES:
        start = time.process_time()
        surrogate = getattr(spon, name).fit(rve, fitted, held_back=held)
        made[name] = surrogate, offline + time.process_time() - start
    with cook(options) as problem:
        fe2 = reference(problem, rve, options)
        yield row(problem, rve, "cell (FE²)", fe2["seconds"], int(fe2["iterations"])) | {
            "faster": 1.0, "u, %": 0.0, "σ, %": 0.0
        }  # fmt: skip
        for name, (surrogate, seconds) in made.items():
            for threshold in (None, options.threshold)[: 1 + SURROGATES[name]]:
                yield compared(problem, rve, fe2, name, surrogate, threshold, options) | {
                    "offline, s": seconds
                }
    with cook(options, options.refined) as problem:
        for name, (surrogate, seconds) in made.items():
            solution, times = quickest(problem, surrogate)
            yield row(problem, rve, name, times, solution.iterations) | {"offline, s": seconds}


def row(problem, rve, name, seconds, iterations):
    """Return the cells of a row that there are without a comparison, the others empty."""
    whole, micro, answer = (float(value) for value in seconds)
    return {
        "cell DoFs": rve.dofs, "macro DoFs": problem.order.size, "points": len(problem.points),
        "microscale": name, "iterations": iterations, "seconds": whole, "micro": micro,
        "macro": whole - micro, "µs": 1e6 * answer, "faster": "-", "u, %": "-", "σ, %": "-", "threshold": "-",
        "points above, %": "-", "fallback": "-", "offline, s": "-",
    }  # fmt: skip


def quickest(problem, model, runs=RUNS):
    """Return the solution and seconds of the quickest of several runs."""
    return min((solve(problem, model) for _ in range(runs)), key=lambda found: found[1][0])


def compared(problem, rve, fe2, name, surrogate, threshold, options):
    """Return the row of a surrogate, with a fallback where there is a threshold."""
    model, runs = surrogate, RUNS
    if threshold is not None:
        model, runs = spon.WithFallback(surrogate, spon.FEModel(rve), threshold), 1
        name += " + fallback"
    solution, seconds = quickest(problem, model, runs)
    whole = np.ones(len(fe2["u"]))
    return row(problem, rve, name, seconds, solution.iterations) | {
        "faster": float(fe2["seconds"][0]) / seconds[0],
        "u, %": relative(solution.displacement.x.array - fe2["u"], fe2["u"], whole),
        "σ, %": relative(solution.micro.stress - fe2["stress"], fe2["stress"], problem.points.weights),
        "threshold": options.threshold,
        "points above, %": 100 * float((distance(rve, solution) > options.threshold).mean()),
        "fallback": solution.fallback if threshold is not None else "-",
    }


def distance(rve, solution):
    """Return ‖σ − σ(cell)‖ / ‖σ(cell)‖ at every eighth point, with the cell solved at its strain."""
    strain = torch.as_tensor(solution.micro.strain[::EVERY])
    exact = rve.solve(strain)
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
    parser.add_argument("--macro", type=int, nargs=2, default=(16, 14), help="intervals along and across")
    parser.add_argument("--refined", type=int, default=4, help="times finer: the mesh without FE²")
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
