"""`spon train`: learn the operator of a data set, in a run folder."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from spon.cli.refinement import REFINEMENTS, calibration_file
from spon.errors import SponError, agree

__all__ = ["add_parser"]


def add_parser(verbs: Any) -> None:
    """Add the verb to the parser of the command."""
    parser = verbs.add_parser(
        "train",
        help="learn the operator of a data set",
        description="Train an operator network on a data set and write a run folder: config.toml, log.csv, "
        "model.pt (the best model, with all that a prediction needs), checkpoint.pt, versions.json. Killed "
        "at any time, the same command goes on where it was. Needs no DOLFINx. For several processes: "
        "mpirun -n 4 spon train ..., or torchrun --nproc-per-node 4 -m spon train ...",
    )
    add = parser.add_argument
    add("data", metavar="DATA", nargs="+", help="data sets; several have meshes of their own")
    add("-o", "--output", metavar="DIR", required=True, help="run folder")
    add("-c", "--config", metavar="FILE", help="TOML, as config.toml of another run")
    add(
        "--processor",
        metavar="NAME",
        help="what is learned; default: LearnedCorrection for linear equations, or Multigrid",
    )
    add(
        "--set",
        metavar="TABLE.KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="any setting, as processor.widths=12,32,64 training.learning_rate=3e-3 model.transform=log",
    )
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--epochs", metavar="N", type=int, help="passes over the training samples; default: 40")
    end.add_argument("--max-seconds", metavar="S", type=float, help="time in their place")
    add("--loss", metavar="NORM", help="relative error that is minimised: h1, l2 or energy; default: h1")
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, ...; default: cpu")
    add("--seed", metavar="N", type=int, help="of initial parameters and the order of samples; default: 0")
    add("--dtype", metavar="NAME", help="of the processor: float32 or float64")
    add("--overwrite", action="store_true", help="discard another run in DIR")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> None:
    """Train. Collective over all processes."""
    from spon.training.distributed import TorchRanks
    from spon.training.interruption import Interrupted

    ranks, status = _ranks(chosen), 0
    by_torchrun = isinstance(ranks, TorchRanks)
    try:
        _train(chosen, ranks)
    except Interrupted as stop:
        if ranks.rank == 0:
            print(f"{stop}; the same command goes on", file=sys.stderr, flush=True)
        status = 128 + stop.signal
    except SponError as error:
        if not by_torchrun:
            raise
        if ranks.rank == 0:
            print(f"spon: error: {error}", file=sys.stderr, flush=True)
        status = 2
    except BaseException:
        if not by_torchrun:
            raise
        traceback.print_exc()
        ranks.abort(1)
    if by_torchrun:
        ranks.leave(status)
    if status:
        sys.exit(status)


def _ranks(chosen: argparse.Namespace) -> Any:
    """Return the processes that mpirun or torchrun started, or this one alone."""
    from spon.training.distributed import MpiRanks, Ranks, TorchRanks, started_by_torchrun

    if started_by_torchrun():
        return TorchRanks("cuda" if (chosen.device or "").startswith("cuda") else "cpu")
    with contextlib.suppress(ImportError):  # no MPI: one process
        from mpi4py import MPI

        if MPI.COMM_WORLD.size > 1:
            return MpiRanks(MPI.COMM_WORLD)
    return Ranks()


def _train(chosen: argparse.Namespace, ranks: Any) -> None:
    import torch

    from spon.data.collection import DatasetCollection
    from spon.nn.input_range import InputRange
    from spon.training.config import RunConfig
    from spon.training.defaults import default_processor
    from spon.training.device import find_device
    from spon.training.run_folder import RunFolder
    from spon.training.trainer import Trainer

    def say(text: str) -> None:
        if ranks.rank == 0:
            print(text, flush=True)

    local_rank = ranks.local_rank
    with agree(ranks):
        tables = _asked(chosen)
        device = find_device(tables.get("device", "cpu"), local_rank)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        members = DatasetCollection.merge(DatasetCollection.load(path) for path in chosen.data)
        parts = [member.parts() for member in members]
        data, validation = [part[0] for part in parts], [part[1] for part in parts]
        why = ""
        if "processor" not in tables.get("model", {}):
            name, reason = default_processor(data, tables.get("processor", {}))
            tables.setdefault("model", {})["processor"], why = name, f", the default: {reason}"
        config, model = _built(RunConfig.from_tables(tables), chosen, data, validation)
    folder = RunFolder(chosen.output, config, data[0], ranks)
    with agree(ranks):
        if ranks.rank == 0:
            folder.prepare(chosen.overwrite)
    say(f"data      {sum(map(len, data))} training and {sum(map(len, validation))} validation samples")
    parameters = sum(p.numel() for p in model.parameters())
    chose = f"{config.model['processor']}, {parameters} parameters, on {device}, ranks: {ranks.size}{why}"
    say(f"model     {chose}")
    if model.processor.physics is not None:
        say(f"equations {_use_of_equations(model.processor)}")
    with agree(ranks):
        state = folder.read()
    if state is not None:
        position = state["position"]
        where = f"{position['epoch']} epochs, {position['step']} steps, {position['seconds']:.1f} s"
        say(f"{'finished ' if position['finished'] else 'goes on  '} after {where}")
    trainer = Trainer(model.to(device), data, config.training, validation, ranks, folder)
    history = trainer.run()
    with agree(ranks):
        if ranks.rank == 0 and len(data) == 1 and len(data[0]) > 2:  # to tell inputs that are unlike them
            InputRange.of(model, data[0]).save(folder.path / "inputs.npz")
        trust = _calibrated(folder.path, data, validation, device) if ranks.rank == 0 else ""
    best = history.best
    if best is not None:
        errors = ", ".join(f"{name} {error:.3%}" for name, error in best.errors.items())
        say(f"errors    {errors} (mean relative errors over the validation samples)")
        say(f"best      after epoch {best.epoch} of {history.rows[-1].epoch}, {history.seconds:.1f} s in all")
    if trust:
        say(f"trust     {trust}")
    say(f"files     {', '.join(str(folder.path / name) for name in folder.FILES)}")


def _calibrated(folder: Path, data: list[Any], validation: list[Any], device: Any) -> str:
    """Calibrate the error estimates of the best model; return what came of it, empty without equations."""
    from spon.cli.certificates import FILE, calibrate_refined, calibrated, find
    from spon.training.checkpoint import load_model

    for path in (folder / FILE, *(folder / calibration_file(name) for name in REFINEMENTS)):
        path.unlink(missing_ok=True)
    if len(data) > 1 or data[0].physics is None:
        return ""
    space = data[0].discretisation
    try:
        certificate = find(space, data[0].physics, device, None)
        model = load_model(folder / "model.pt", space, device)
        found = calibrated(certificate, model, validation[0])
    except SponError as error:
        return f"error estimates are not calibrated: {error}"
    found.save(folder / FILE, space.fingerprint)
    left = "".join(
        f"; {line}" for line in calibrate_refined(folder, certificate, model, data[0].physics, validation[0])
    )
    return (
        f"error / estimate {found.median:.3f} (median), at most {found.upper:.3f} for {found.level:.0%} of "
        f"{found.samples} validation samples: {folder / FILE}{left}"
    )


def _asked(chosen: argparse.Namespace) -> dict[str, Any]:
    """The configuration of file and options, before what depends on the data, as tables."""
    from spon.training.config import RunConfig, parse_override, read_tables

    tables = read_tables(chosen.config) if chosen.config else {}
    RunConfig.from_tables(tables)  # to name what is wrong in the file before options change it
    tables.pop("data", None)  # those of another run
    if chosen.processor:
        if chosen.processor != tables.get("model", {}).get("processor"):
            tables.pop("processor", None)
        tables.setdefault("model", {})["processor"] = chosen.processor
    settings = [parse_override(text) for text in chosen.set]
    for key in ("epochs", "max_seconds", "loss", "seed"):
        if getattr(chosen, key) is not None:
            settings.append(("training", key, getattr(chosen, key)))
    if chosen.epochs is not None:
        settings.append(("training", "max_seconds", "none"))
    if chosen.dtype is not None:
        settings.append(("processor", "dtype", chosen.dtype))
    for table, key, value in settings:
        tables.setdefault(table, {})[key] = value
    if chosen.device:
        tables["device"] = chosen.device
    named = "processor" in tables.get("model", {})
    RunConfig.from_tables({k: v for k, v in tables.items() if named or k != "processor"})
    return tables


def _built(asked: Any, chosen: argparse.Namespace, data: list[Any], validation: list[Any]) -> Any:
    """The resolved configuration, and the network.

    An input that is a positive coefficient, or may be one, is transformed by the logarithm and used as
    the processor's coefficient, and a processor that can start from cycles with the equations of the data
    does so, unless the configuration says otherwise.
    """
    import inspect
    from dataclasses import replace

    from spon.nn.operator import OperatorNetwork
    from spon.nn.processors import find_processor
    from spon.training.defaults import has_cycles

    space = data[0].discretisation
    kind = find_processor(asked.model["processor"])
    arguments = inspect.signature(kind).parameters
    coefficient = all(_coefficient(d) for d in data)
    network = {"transform": "log" if coefficient else "identity", **asked.model}
    given = dict(asked.processor)
    if "coefficient" in arguments:
        given.setdefault("coefficient", coefficient)
    if "seed" in arguments:
        given.setdefault("seed", asked.training.seed)
    if "guess" in arguments and "guess" not in given and all(map(has_cycles, data)):
        given["guess"] = "start"
    try:
        processor = kind(space, **given)
    except TypeError as error:
        raise SponError(f"cannot make a {kind.__name__}: {error}") from error
    processor.use(data[0].physics)
    if len(data) > 1:
        network.setdefault("centre", False)  # the mean of outputs belongs to one mesh
    model = OperatorNetwork(space, processor, **{k: v for k, v in network.items() if k != "processor"})
    derived = {k for k, a in arguments.items() if a.default is None} - set(given)  # from the data
    resolved = given | {k: v for k, v in processor.settings.items() if k not in derived}
    sets = [*data, *validation]
    record = {
        "path": [os.path.abspath(path) for path in chosen.data],  # noqa: PTH100, links stay
        "fingerprint": [d.discretisation.fingerprint for d in data],
        "samples": [[len(d) for d in data], [len(d) for d in validation]],
        "digest": _digest(sets),
    }
    return replace(asked, model=network, processor=resolved, data=record), model


def _coefficient(data: Any) -> bool:
    """Whether the first input is a positive scalar, and the coefficient if the equations are known."""
    name = next(iter(data.discretisation.inputs))
    known = data.physics is None or data.physics.coefficient == name
    return known and data.discretisation.input.components == 1 and bool((data.input(name) > 0).all())


def _use_of_equations(processor: Any) -> str:
    """Say what a processor does with the equations."""
    if "guess" not in processor.settings:
        return f"{processor.physics.kernel}, used by the {type(processor).__name__}"
    guess, cycles = processor.settings["guess"], processor.settings["guess_cycles"]
    what = "starts from" if guess == "start" else "sees"
    many = "1 multigrid cycle" if cycles == 1 else f"{cycles} multigrid cycles"
    return (
        f"{processor.physics.kernel}, used: the network {what} {many} with each sample's own operator "
        f"(processor.guess = {guess})"
    )


def _digest(sets: list[Any]) -> str:
    import hashlib

    digest = hashlib.sha256()
    for data in sets:
        for array in (data.inputs, data.outputs):
            digest.update(array.tobytes())
    return digest.hexdigest()
