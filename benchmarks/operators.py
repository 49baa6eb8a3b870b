"""Operator networks of spon against published ones: the same samples, split, core and seconds of training.

Run as benchmarks/peers/README.md says; writes results/operators.json and RESULTS.md. It can be stopped and
goes on where it was; every run is a line of results/operators.jsonl.

Data: spon's own, with fixed seeds. "darcy": two-phase permeability 12/3, a value per cell, on the square of
65 x 65 nodes; "plate": log-normal permeability on the plate with holes; "elasticity": log-normal Young's
modulus (in units of its median) on the perforated sheet; "notch": boundary data on the triangle with a notch.

Training: AdamW, 5 % warm-up, then cosine to zero at the end of the budget, which is processor time of one
thread: on a free core that is wall time, and it does not depend on what else the machine does. The learning
rate is the best of three on the validation samples, with a third of the budget each; then three seeds. The
weights that are best on the validation samples among six points stay. Loss: the mean relative H1 error
on the mesh; L2 for the Transolver, as documented.

Ours: every processor with its default settings; "Multigrid+cycle" knows the equations too and learns the
correction to one multigrid cycle with the operator of the sample (for equations that it has this for).

Peers: FNO, U-NO and GINO of neuraloperator 2.0; Transolver and POD-DeepONet written after their papers.
Settings as documented; sizes far smaller, the best of a few trials of 5 to 30 s on "darcy", one seed each,
by test error (which favours the peers). FNO and U-NO work on a grid: that of the mesh on the square,
elsewhere one of the bounding box with a mask, with linear interpolation from the nodes and back; what they
predict is measured on the mesh like all the rest.

Columns: mean and spread (largest − smallest) over seeds of the mean relative error over test samples;
boundary: the largest deviation from prescribed values; processor milliseconds of a prediction for each
sample; "s to best peer": seconds after which the error of the weights that would stay, on the test samples
measured on the way, is at most what the best peer on this problem has in the end ("-": never). What falls
short, and why: Linear and LowRank stop at what 600 samples say of a linear and a low-rank map, with any
training; Graph, SliceAttention and, on elasticity, Multigrid see each sample once to three times in 20 s
(steps times 4 over 600). Aims: half the error of the best peer on the
first three problems, boundary values to 1e-12, and the best peer's error in a quarter of its time.
"""

import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

import numpy as np
import torch
from fitting import POINTS, fit, measure
from peers import PEERS, find_peer
from results import record

import spon
from spon.nn.processors import PROCESSORS, find_processor

RUNS = Path(__file__).parent / "results" / "operators.jsonl"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "spon" / "benchmarks"
AIM_ERROR, AIM_TIME, AIM_BOUNDARY = 1 / 2, 1 / 4, 1e-12

# problem → transform of the first input, whether it is a coefficient of the equation
PROBLEMS = {
    "darcy": ("identity", True),
    "plate": ("log", True),
    "elasticity": ("log", True),
    "notch": ("identity", False),
}


def make_problem(name, refinements=2):
    """Return a problem on its mesh."""
    if name == "darcy":
        with tempfile.TemporaryDirectory() as folder:
            text = spon.find_mesh("square.geo").read_text()
            mesh = Path(folder) / "square.geo"
            mesh.write_text(text.replace("n = 21;", "n = 16;"))
            return load("darcy").from_mesh(mesh, refinements=refinements)
    if name == "plate":
        mesh = spon.find_mesh("plate.geo")
        return load("darcy").from_mesh(mesh, refinements=refinements, kind="lognormal")
    if name == "elasticity":  # in units of 70 GPa
        traction = {"right": (50e6 / 70e9, 0.0)}
        return load("elasticity").from_mesh(refinements=refinements, modulus=1.0, traction=traction)
    return load("notch").from_mesh(refinements=refinements)


def load(name):
    module = spon.load_problem(spon.find_problem(f"{name}.py"))
    return getattr(module, name.capitalize())


def data_file(name, samples, cache):
    """Return the file of the samples of a problem (training, validation, test), made where it is missing."""
    path = Path(cache) / f"{name}-{'-'.join(map(str, samples))}.h5"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f"generating {path}", flush=True)
        dataset = spon.generate(make_problem(name), sum(samples), seed=0)
        replace(dataset, sizes=tuple(samples)).save(path)
    return path


# name in the table → processor and its settings
OWN = {name: (name, {}) for name in PROCESSORS} | {"Multigrid+cycle": ("Multigrid", {"guess": "start"})}


# ------------------------------------------------------------------------ one run


def make_model(problem, name, train, seed, changes):
    """Return a model and the settings of its training."""
    transform, coefficient = PROBLEMS[problem]
    torch.manual_seed(seed)
    if name in PEERS:
        peer = type(name, (find_peer(name),), changes)
        return peer(train, transform), peer
    kind, fixed = OWN[name]
    changes = {"seed": seed, "coefficient": coefficient, **fixed, **changes}
    accepted = inspect.signature(find_processor(kind).__init__).parameters
    changes = {key: value for key, value in changes.items() if key in accepted}
    processor = find_processor(kind)(train.discretisation, **changes)
    processor.use(train.physics)
    return spon.OperatorNetwork(train.discretisation, processor, transform), OURS


OURS = SimpleNamespace(
    learning_rates=(3e-3, 6e-3, 1.2e-2), batch_size=4, weight_decay=1e-4, clip=1.0, norm="h1"
)


def learning_rates(name):
    """Return those of which the best is taken."""
    return find_peer(name).learning_rates if name in PEERS else OURS.learning_rates


def run(path, problem, name, learning_rate, seed, seconds, changes, points=POINTS):
    """Train and measure a model; return what goes into the file of runs, beside its key."""
    torch.set_num_threads(1)
    start = perf_counter()
    parts = spon.Dataset.load(path).parts()
    model, settings = make_model(problem, name, parts[0], seed, changes)
    try:
        found = fit(model, parts, settings, learning_rate, seed, seconds, points)
    except FloatingPointError as error:
        return {"failed": str(error)}
    return {**found, **measure(model, parts[2]), "wall": perf_counter() - start}


# ----------------------------------------------------------------------- all runs


class Runs:
    """The file of runs: a line each, appended when it is done; a line cut off by a kill is ignored.

    Args:
        path: made where it is missing.
    """

    def __init__(self, path):
        self.path, self.lock, self.found = Path(path), threading.Lock(), {}
        if self.path.exists():
            text = self.path.read_text()
            complete = text[: text.rfind("\n") + 1]
            if complete != text:
                self.path.write_text(complete)
            for line in complete.splitlines():
                entry = json.loads(line)
                self.found[self.key(entry)] = entry

    @staticmethod
    def key(entry):
        """Return what identifies a run."""
        names = ("problem", "model", "learning_rate", "seed", "seconds", "samples", "changes")
        return json.dumps([entry[name] for name in names], sort_keys=True)

    def get(self, entry, make):
        """Return the run with the key of `entry`, made and appended where it is missing."""
        key = self.key(entry)
        if key not in self.found:
            made = {**entry, **make()}
            with self.lock, self.path.open("a") as file:
                file.write(json.dumps(made) + "\n")
            self.found[key] = made
        return self.found[key]


def start(entry, cache, trial):
    """Run in a process of its own with one thread; return what it prints."""
    command = [sys.executable, __file__, "--run", entry["problem"], entry["model"]]
    command += [str(entry[key]) for key in ("learning_rate", "seed", "seconds")]
    command += ["--cache", str(cache), "--samples", *map(str, entry["samples"])]
    command += ["--set", json.dumps(entry["changes"])] + ["--trial"] * trial
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(command, env={**os.environ, **one}, capture_output=True, text=True, check=False)
    label = f"{entry['problem']} {entry['model']} {entry['learning_rate']:g} seed {entry['seed']}"
    if done.returncode:
        print(f"{label}: {done.stderr}", file=sys.stderr, flush=True)
        return {"failed": done.stderr.strip().splitlines()[-1]}
    found = json.loads(done.stdout.splitlines()[-1])
    text = found.get("failed") or f"L2 {found['l2']:.4f}, H1 {found['h1']:.4f}, {found['wall']:.0f} s"
    print(f"{label}, {entry['seconds']:g} s: {text}", flush=True)
    return found


def compare(runs, problem, name, options):
    """Choose the learning rate of a model on a problem, then train it with every seed."""
    common = {"problem": problem, "model": name, "samples": list(options.samples), "changes": options.set}

    def get(learning_rate, seed, seconds, trial):
        entry = {**common, "learning_rate": learning_rate, "seed": seed, "seconds": seconds}
        return runs.get(entry, lambda: start(entry, options.cache, trial))

    trials = [get(rate, 0, round(options.seconds / 3, 3), True) for rate in learning_rates(name)]
    usable = [t for t in trials if "failed" not in t]
    if usable:
        best = min(usable, key=lambda t: t["validation"])["learning_rate"]
        for seed in range(1, options.seeds + 1):
            get(best, seed, options.seconds, False)


# ---------------------------------------------------------------------- the table


def table(found, options):
    """Return the rows of results/operators.json, from all the runs that there are."""
    rows = []
    for problem in PROBLEMS:
        groups = {}
        for entry in found:
            same = entry["samples"] == list(options.samples) and entry["changes"] == options.set
            if same and entry["problem"] == problem and "failed" not in entry:
                groups.setdefault(entry["model"], []).append(entry)
        full = {n: [e for e in g if e["seconds"] == options.seconds] for n, g in groups.items()}
        means = {n: float(np.mean([e["l2"] for e in g])) for n, g in full.items() if g}
        peers = {n: mean for n, mean in means.items() if n in PEERS}
        best = full[min(peers, key=peers.get)] if peers else None
        for name in sorted(means, key=means.get):
            rows.append(row(problem, name, full[name], groups[name], best, options.seconds))
    return rows


def row(problem, name, final, entries, best, seconds):
    """Return one row of the table; `best`: the runs of the best peer."""
    ours = name not in PEERS
    l2, h1 = ([100 * e[key] for e in final] for key in ("l2", "h1"))
    reached = time_to(entries, np.mean([kept(e["curve"])[-1] for e in best])) if best else None
    short = "-"
    if ours and best:
        target = np.mean([e["l2"] for e in best])
        short = ", ".join(missed(np.mean(l2) / 100, final, target, reached, seconds)) or "none"
    return {
        "problem": problem,
        "model": name,
        "seeds": len(final),
        "L2, %": float(np.mean(l2)),
        "± L2": float(np.ptp(l2)),
        "H1, %": float(np.mean(h1)),
        "± H1": float(np.ptp(h1)),
        "boundary": max(e["boundary"] for e in final),
        "parameters": final[0]["parameters"],
        "learning rate": final[0]["learning_rate"],
        "trained, s": float(np.mean([e["trained"] for e in final])),
        "steps": int(np.mean([e["steps"] for e in final])),
        "ms, batch of 16": float(np.median([e["batch_ms"] for e in final])),
        "ms, one": float(np.median([e["single_ms"] for e in final])),
        "s to best peer": "-" if reached is None else reached,
        "aims missed": short,
    }


def missed(error, final, target, reached, seconds):
    """Return the aims that a model of spon misses, with what it has."""
    if error > AIM_ERROR * target:
        yield f"L2 {error / target:.2f} of the best peer's"
    boundary = max(e["boundary"] for e in final)
    if boundary > AIM_BOUNDARY:
        yield f"boundary {boundary:.0e}"
    if reached is None or reached > AIM_TIME * seconds:
        yield "time" if reached is None else f"{reached / seconds:.2f} of the time"


def kept(curve):
    """Return the test error at each point of the weights that would stay if training ended there."""
    return [min(curve[: i + 1], key=lambda point: point[2])[3] for i in range(len(curve))]


def time_to(entries, target):
    """Return the seconds until the mean test error of a budget's runs is at most `target`, else None.

    Runs of a smaller budget, whose learning rate has come down by then, count too.
    """
    found = []
    for budget in {e["seconds"] for e in entries}:
        same = [e for e in entries if e["seconds"] == budget]
        if len({e["learning_rate"] for e in same}) > 1:  # trials: the one that was chosen
            same = [min(same, key=lambda e: e["validation"])]
        seconds = np.mean([[point[0] for point in e["curve"]] for e in same], axis=0)
        errors = np.mean([kept(e["curve"]) for e in same], axis=0)
        found += [float(s) for s, error in zip(seconds, errors, strict=True) if error <= target]
    return min(found, default=None)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of training for each run (default 60)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side; at most as many as cores")
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    names = [*OWN, *PEERS]
    parser.add_argument("--models", nargs="+", choices=names, default=names)
    parser.add_argument("--samples", type=int, nargs=3, default=(600, 100, 100),
                        help="training, validation, test (default 600 100 100)")  # fmt: skip
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"folder for data (default {CACHE})")
    parser.add_argument("--runs", type=Path, default=RUNS, help="file of runs")
    parser.add_argument("--set", type=json.loads, default={}, metavar="JSON",
                        help='other sizes, such as {"width": 24}; no table is written then')  # fmt: skip
    parser.add_argument("--trial", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--run", nargs=5, metavar=("PROBLEM", "MODEL", "RATE", "SEED", "SECONDS"),
                        help="one run, printed as JSON")  # fmt: skip
    return parser.parse_args()


def main():
    options = arguments()
    if options.run:
        problem, name, rate, seed, seconds = options.run
        path = data_file(problem, options.samples, options.cache)
        points = (1.0,) if options.trial else POINTS
        found = run(path, problem, name, float(rate), int(seed), float(seconds), options.set, points)
        print(json.dumps(found))
        return
    for problem in options.problems:
        data_file(problem, options.samples, options.cache)
    options.runs.parent.mkdir(parents=True, exist_ok=True)
    runs = Runs(options.runs)
    with ThreadPoolExecutor(options.jobs) as pool:
        tasks = [(problem, name) for problem in options.problems for name in options.models]
        list(pool.map(lambda task: compare(runs, *task, options), tasks))
    if options.runs == RUNS and not options.set:
        record("operators", __doc__, table(runs.found.values(), options))


if __name__ == "__main__":
    main()
