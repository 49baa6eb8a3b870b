"""`spon rve snapshots`, `train` and `evaluate`: surrogates of periodic cells."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from spon.cli.ranks import alone
from spon.errors import SponError

__all__ = ["add_actions"]

_ENOUGH = 19  # load cases to calibrate 95 % on
_FLAGS = {
    "rank": "--modes",
    "energy": "--energy",
    "points": "--points",
    "steps": "--steps",
    "refinements": "--refinements",
    "seed": "--seed",
}


def add_actions(actions: Any) -> None:
    """Add the actions to the parser of the verb."""
    snapshots = actions.add_parser("snapshots", help="solve load cases to learn from or to test on")
    add = snapshots.add_argument
    add("mesh", help="file of a mesh that fills a box, phases by physical name, or RVE .h5")
    add("--laws", metavar="FILE", help="TOML: [phase] with law = NAME and its parameters")
    add("-n", metavar="N", type=int, default=40, help="load cases, a Latin hypercube; default: 40")
    add("--limit", metavar="E", type=float, default=0.04, help="largest strain component; default: 0.04")
    add("--seed", type=int, default=0, help="of the load cases; default: 0")
    add("--degree", type=int, default=2, help="of the displacement; default: 2")
    add("-o", metavar="FILE", dest="output", required=True, help="HDF5 file, with the cell")
    snapshots.set_defaults(run=_snapshots)

    train = actions.add_parser("train", help="make a surrogate of solved load cases")
    add = train.add_argument
    add("snapshots", metavar="SNAPSHOTS", help="file of spon rve snapshots")
    add(
        "--surrogate",
        metavar="NAME",
        default="NeuralGalerkin",
        help="default: NeuralGalerkin; also ReducedRVE, ConvexPotential, PolynomialPotential, MLPPotential, "
        "EquiNO, VariationalDeepONet",
    )
    add(
        "--modes",
        metavar="R",
        dest="rank",
        type=int,
        help="default: what --energy needs, without it 32 at most; EquiNO and VariationalDeepONet: 16",
    )
    add("--energy", metavar="E", type=float, help="share of energy that modes may leave out; default: 1e-5")
    add(
        "--points",
        metavar="N",
        type=int,
        help="of the reduced quadrature; default: 8 for each mode, 10 in space",
    )
    add("--steps", metavar="N", type=int, help="of Adam, where networks are trained")
    add("--refinements", metavar="N", type=int, help="iterations of L-BFGS, where networks are trained")
    add("--seed", type=int, help="default: 0")
    add(
        "--hold-back",
        metavar="K",
        type=int,
        help="last load cases, kept to calibrate the indicator; default: a fifth",
    )
    add("-o", metavar="FILE", dest="output", required=True, help="surrogate, as reduced.pt")
    train.set_defaults(run=alone(_train, needs_dolfinx=False))

    evaluate = actions.add_parser("evaluate", help="errors of a surrogate on other load cases")
    add = evaluate.add_argument
    add("surrogate", metavar="FILE", help="surrogate")
    add("snapshots", metavar="SNAPSHOTS", help="file of spon rve snapshots, with another seed")
    add("-o", metavar="FILE", dest="output", help="JSON; default: FILE with .json")
    evaluate.set_defaults(run=alone(_evaluate, needs_dolfinx=False))


def _snapshots(chosen: argparse.Namespace) -> None:
    """Solve load cases. Collective over all ranks."""
    from spon._compat import require_dolfinx

    require_dolfinx()
    from mpi4py import MPI

    from spon.cli.rve import cell
    from spon.errors import agree
    from spon.multiscale.loads import latin_hypercube
    from spon.multiscale.snapshots import take_snapshots

    comm = MPI.COMM_WORLD
    with agree(comm):
        if Path(chosen.output).is_dir():
            raise SponError(f"cannot write {chosen.output}: it is a folder")
        if chosen.n < 1 or not 0 < chosen.limit < 1:
            raise SponError(f"-n {chosen.n} --limit {chosen.limit}; allowed: 1 or more, between 0 and 1")
    rve = cell(chosen.mesh, chosen.laws, chosen.degree, comm)
    clock = time.perf_counter()
    strains = latin_hypercube(chosen.n, rve.strain_size, chosen.limit, chosen.seed)
    found = take_snapshots(rve, strains, comm, show=comm.rank == 0)
    with agree(comm):
        if comm.rank > 0:
            return
        found.save(chosen.output, rve)
        phases = ", ".join(rve.names)
        print(f"cell      {rve.dofs} DoFs, {len(rve.weights)} points, phases {phases}")
        print(f"solved    {len(found)} load cases within {chosen.limit:g}, {len(found.failed)} failed")
        print(f"time      {time.perf_counter() - clock:.1f} s on {comm.size} ranks")
        print(chosen.output)


def _train(chosen: argparse.Namespace) -> None:
    from spon.multiscale.rve import RVE
    from spon.multiscale.snapshots import Snapshots
    from spon.multiscale.surrogate import surrogate_class

    kind = surrogate_class(chosen.surrogate)
    settings = {name: getattr(chosen, name) for name in _FLAGS if getattr(chosen, name) is not None}
    wrong = [_FLAGS[name] for name in settings if name not in kind.settings]
    if wrong:
        allowed = ", ".join(_FLAGS[name] for name in _FLAGS if name in kind.settings) or "none of these"
        raise SponError(f"{chosen.surrogate} takes no {wrong[0]}; allowed: {allowed}")
    if "energy" in settings and "rank" in settings:
        raise SponError("--modes and --energy both choose the number of modes; allowed: one of them")
    if "show" in kind.settings:
        settings["show"] = True
    rve, snapshots = RVE.load(chosen.snapshots), Snapshots.load(chosen.snapshots)
    kept = len(snapshots) // 5 if chosen.hold_back is None else chosen.hold_back
    if not 0 <= kept < len(snapshots):
        raise SponError(f"--hold-back {kept}; allowed: 0 to {len(snapshots) - 1}")
    learn = len(snapshots) - kept
    if "energy" in settings:
        settings["rank"] = None
    clock = time.perf_counter()
    held_back = snapshots[learn:] if kept else None
    surrogate = kind.fit(rve, snapshots[:learn], held_back=held_back, **settings)
    surrogate.save(chosen.output)
    box = "  ".join(f"{low:.3g} to {high:.3g}" for low, high in surrogate.box.T.tolist())
    print(f"surrogate {chosen.surrogate} of {learn} load cases, {kept} held back")
    print(f"strains   {box}")
    print(f"time      {time.perf_counter() - clock:.1f} s")
    print(chosen.output)


def _evaluate(chosen: argparse.Namespace) -> None:
    from spon.files import replacing
    from spon.multiscale.evaluation import evaluate_surrogate
    from spon.multiscale.rve import RVE
    from spon.multiscale.snapshots import Snapshots
    from spon.multiscale.surrogate import load_surrogate

    surrogate = load_surrogate(chosen.surrogate)
    errors = evaluate_surrogate(surrogate, RVE.load(chosen.snapshots), Snapshots.load(chosen.snapshots))
    output = Path(chosen.output or Path(chosen.surrogate).with_suffix(".json"))
    with replacing(output) as temporary:
        temporary.write_text(json.dumps(errors.as_dict(), indent=1) + "\n")
    print("\n".join(_described(errors)))
    print(output)


def _described(errors: Any) -> list[str]:
    from spon.multiscale.voigt import COMPONENTS

    names = COMPONENTS[len(errors.macro)]
    lines = [
        f"load cases         {errors.cases}, {errors.failed} without answer, {errors.outside} outside",
        "relative error, %  " + "".join(f"{name:>9}" for name in names),
        "macroscopic stress " + "".join(f"{100 * v:9.3g}" for v in errors.macro),
    ]
    if errors.local is not None:
        lines.append("local stress       " + "".join(f"{100 * v:9.3g}" for v in errors.local))
    lines.append(
        f"tangent            {100 * errors.tangent:9.3g} mean Frobenius, shear {100 * errors.shear_mean:.3g} "
        f"mean {100 * errors.shear_max:.3g} max; asymmetry {100 * errors.asymmetry:.2g}"
    )
    if errors.covered is not None:
        lines.append(f"indicator          above the error in {100 * errors.covered:.0f} % of the cases")
        if errors.calibrated is not None:
            few = ", too few for 95 % without an assumption" if 0 < errors.calibrated < _ENOUGH else ""
            lines.append(f"  calibrated on    {errors.calibrated} load cases{few}")
        of = (("macroscopic", errors.indicator_macro), ("local", errors.indicator_local))
        found = ", ".join(f"{v:.2f} {name}" for name, v in of if v is not None)
        lines.append(f"  rank correlation {found or 'not defined'}")
    return lines
