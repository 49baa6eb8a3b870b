"""`spon demo`: a mesh goes in, a trained and verified operator comes out."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from spon.errors import SponError, agree

__all__ = ["add_parser"]


@dataclass(frozen=True)
class _Size:
    refinements: int
    train: int
    test: int
    epochs: int
    cycles: int
    dtype: str


_FULL = _Size(refinements=2, train=200, test=50, epochs=40, cycles=2, dtype="float32")
_QUICK = _Size(refinements=1, train=128, test=32, epochs=24, cycles=1, dtype="float64")


def add_parser(verbs: Any) -> None:
    """Add the verb to the parser of the command."""
    parser = verbs.add_parser(
        "demo",
        help="mesh, data, training, evaluation and files for ParaView in one go",
        description="Learn the map from a random conductivity to the temperature of a plate with "
        "three holes, or of your own plane mesh; verify it against finite elements and two baselines.",
    )
    add = parser.add_argument
    add("-o", "--output", metavar="DIR", default="demo", help="folder for the results; default: demo")
    add("--quick", action="store_true", help="a small problem in double precision, in seconds")
    add(
        "--mesh",
        metavar="FILE",
        help="your own .msh or .geo of triangles, coarse; default: the plate",
    )
    add(
        "--temperature",
        metavar="NAME=K",
        nargs="+",
        type=_named_value,
        help="prescribed temperatures on named boundaries; default on the plate: left=0 right=0 circle=1",
    )
    add(
        "--flux",
        metavar="NAME=Q",
        nargs="+",
        type=_named_value,
        help="heat flux into the plate on named boundaries; default on the plate: slot=1",
    )
    add("--refinements", metavar="N", type=int, help="uniform refinements; default: 2, quick: 1")
    add("--epochs", metavar="N", type=int, help=f"default: {_FULL.epochs}, quick: {_QUICK.epochs}")
    add("--seed", type=int, default=0, help="of the random conductivities; default: 0")
    add("--device", default="cpu", help="where to train: cpu, cuda, cuda:1, ...; default: cpu")
    parser.set_defaults(run=run)


def _named_value(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        equals = ""
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"'{text}'; allowed: NAME=NUMBER, such as left=0")
    return name, number


def run(arguments: argparse.Namespace) -> None:
    """Run the demo. Collective over all ranks."""
    from spon._compat import require_dolfinx

    require_dolfinx()
    import torch
    from mpi4py import MPI

    import spon
    from spon.files import output_folder
    from spon.training.device import find_device

    started = time.perf_counter()
    comm = MPI.COMM_WORLD
    torch.set_num_threads(1)  # ranks are the parallelism here; more threads change the last digits
    size = _QUICK if arguments.quick else _FULL
    given = {name: getattr(arguments, name) for name in ("refinements", "epochs")}
    size = replace(size, **{name: value for name, value in given.items() if value is not None})
    settings = spon.Training(epochs=size.epochs)
    device = find_device(arguments.device)
    folder = Path(arguments.output)
    with agree(comm):
        if comm.rank == 0:
            output_folder(folder)

    def say(text: str) -> None:
        if comm.rank == 0:
            print(text, flush=True)

    problem = _plate(arguments, size, comm)
    coarse = problem.hierarchy.meshes[-1].arrays
    nodes = " > ".join(str(len(m.arrays.points)) for m in problem.hierarchy.meshes)
    say(f"mesh      {coarse.source}: {nodes} nodes on {len(problem.hierarchy.meshes)} nested levels")
    say(f"          boundaries: {', '.join(coarse.facet_names)}")

    clock = time.perf_counter()
    data = spon.generate(problem, size.train + size.test, arguments.seed, comm)
    train, test = data.split(size.train, size.test)
    generation = time.perf_counter() - clock
    say(f"data      {size.train} training and {size.test} test samples")

    processor = spon.Multigrid(data.discretisation, cycles=size.cycles, dtype=size.dtype)
    model = spon.OperatorNetwork(data.discretisation, processor, transform="log").to(device)
    say(f"model     {type(processor).__name__}, {sum(p.numel() for p in model.parameters())} parameters")
    history = spon.train(model, train, settings, comm)

    metrics = _measure(problem, model, train, test, comm)
    metrics["seconds"] |= {"generation": generation, "training": history.seconds}
    metrics["training_loss"] = history.losses
    metrics["settings"] = asdict(settings) | asdict(size) | {"seed": arguments.seed}
    metrics["fingerprint"] = data.discretisation.fingerprint
    metrics["versions"] = _versions(comm)
    with agree(comm):
        if comm.rank == 0:
            data.save(folder / "data.h5")
            spon.save_model(folder / "model.pt", model, train)
            _write_pictures(folder, problem, model, test, metrics["samples"])
            metrics["seconds"]["total"] = time.perf_counter() - started
            _write_json(folder / "metrics.json", metrics)
            print(_table(metrics))
            print(_where(folder))


def _plate(arguments: argparse.Namespace, size: _Size, comm: Any) -> Any:
    """The problem, on the plate or on the user's mesh, a copy on each rank."""
    from mpi4py import MPI

    import spon

    coarse = spon.read_mesh(arguments.mesh or spon.find_mesh("plate.geo"), comm, MPI.COMM_SELF)
    if coarse.arrays.cell_type != "triangle":
        raise SponError(f"{coarse.arrays.source}: cells are {coarse.arrays.cell_type}; allowed: triangle")
    own = arguments.mesh is not None  # the plate's default flux means nothing there
    if own and not arguments.temperature:
        names = ", ".join(f"'{name}'" for name in coarse.arrays.facet_names)
        raise SponError(f"--mesh needs --temperature NAME=K; {coarse.arrays.source} has: {names or 'none'}")
    flux = _unique("--flux", arguments.flux or []) if own or arguments.flux else None
    temperature = _unique("--temperature", arguments.temperature) if arguments.temperature else None
    plate = spon.load_problem(spon.find_problem("plate.py")).Plate
    return plate(spon.Hierarchy.uniform(coarse, size.refinements), temperature, flux)


def _unique(option: str, pairs: list[tuple[str, float]]) -> dict[str, float]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise SponError(f"{option} gives boundary '{name}' {names.count(name)} times; allowed: once")
    return dict(pairs)


def _measure(problem: Any, model: Any, train: Any, test: Any, comm: Any) -> dict[str, Any]:
    """Errors, the finite-element floor, baselines, timings, and which samples to show."""
    import numpy as np

    import spon
    from spon.baselines import MeanOutput, PodRegression
    from spon.evaluation import relative_errors, summary
    from spon.physics.assembled.floor import fe_floor

    baselines = {"mean_output": MeanOutput(train), "pod_regression": PodRegression(train, True)}
    metrics: dict[str, Any] = spon.evaluate(model, test, baselines)
    floor = fe_floor(problem, test, comm)
    metrics["fe_floor_l2"], metrics["fe_floor_h1"] = summary(floor.best_l2), summary(floor.best_h1)
    metrics["fe_solve_l2"], metrics["fe_solve_h1"] = summary(floor.solve_l2), summary(floor.solve_h1)
    one, many = test.inputs[:1], test.inputs
    metrics["seconds"] = {
        "fe_solve": statistics.median(test.seconds.tolist()),
        "prediction": _median_seconds(lambda: model.predict(one)),
        "prediction_in_batch": _median_seconds(lambda: model.predict(many)) / len(many),
    }
    by_error = test.numbers[np.argsort(relative_errors(test, model.predict(test.inputs), "l2"))]
    metrics["samples"] = {"median": int(by_error[(len(test) - 1) // 2]), "worst": int(by_error[-1])}
    return metrics


def _write_pictures(folder: Path, problem: Any, model: Any, test: Any, samples: dict[str, int]) -> None:
    """Fields of the median sample, and a picture of all samples named."""
    import numpy as np

    import spon
    from spon.plots import plot_predictions

    predicted = model.predict(test.inputs)
    rows = {label: int(np.flatnonzero(test.numbers == number)[0]) for label, number in samples.items()}
    m, u, guess = test.inputs[rows["median"]], test.outputs[rows["median"]], predicted[rows["median"]]
    name = test.output_name
    fields = {next(iter(problem.encoders)): m, f"{name}_reference": u, name: guess, "error": guess - u}
    spon.write(folder / "u.bp", problem.order, fields)
    spon.write(folder / "u.xdmf", problem.order, fields)
    plot_predictions(folder / "plate.png", test, predicted, list(rows.items()))


def _median_seconds(call: Callable[[], object]) -> float:
    call()
    durations = []
    for _ in range(5):
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def _versions(comm: Any) -> dict[str, Any]:
    import dolfinx
    import numpy
    import petsc4py
    import torch

    import spon

    return {
        "spon": spon.__version__,
        "dolfinx": dolfinx.__version__,
        "petsc4py": petsc4py.__version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "ranks": comm.size,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    from spon.files import replacing

    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def _table(metrics: dict[str, Any]) -> str:
    lines = ["", f"{'relative error on test samples':<38}{'mean':>10}{'median':>10}{'worst':>10}"]

    def row(label: str, values: dict[str, float], form: str = ".3%") -> None:
        cells = "".join(f"{values[k]:>10{form}}" for k in ("mean", "median", "max"))
        lines.append(f"  {label:<36}{cells}")

    for norm, title in (("l2", "L2"), ("h1", "H1")):
        lines.append(f"{title} norm")
        row("operator network", metrics[f"relative_{norm}"])
        row("FE floor (best in this space)", metrics[f"fe_floor_{norm}"])
        row("FE solution (against refined mesh)", metrics[f"fe_solve_{norm}"])
        row(
            "baseline: POD + linear regression",
            metrics["baselines"]["pod_regression"][f"relative_{norm}"],
        )
        row(
            "baseline: mean of training outputs",
            metrics["baselines"]["mean_output"][f"relative_{norm}"],
        )
    lines.append("boundary values")
    row("operator network, largest |u - u_D|", metrics["boundary_error"], ".1e")
    s = metrics["seconds"]
    lines += [
        "",
        f"one FE solve {1e3 * s['fe_solve']:.2f} ms; one prediction {1e3 * s['prediction']:.2f} ms, in a "
        f"batch {1e3 * s['prediction_in_batch']:.2f} ms each",
        f"seconds: data {s['generation']:.1f}, training {s['training']:.1f}, in all {s['total']:.1f}",
    ]
    return "\n".join(lines)


def _where(folder: Path) -> str:
    described = {
        "metrics.json": "every number above, settings and versions",
        "data.h5": "data set with its discretisation; read by spon.Dataset.load",
        "model.pt": "trained model with its discretisation; read by spon.load_model",
        "u.bp": "median sample for ParaView (VTX)",
        "u.xdmf": "the same for ParaView and meshio",
        "plate.png": "median and worst sample",
    }
    return "\n" + "\n".join(f"{folder / name!s:<24} {text}" for name, text in described.items())
