"""`spon rve`: periodic cells, their average stress and stiffness."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from spon.cli.rve_surrogates import add_actions
from spon.errors import SponError

__all__ = ["add_parser", "cell"]


def add_parser(verbs: Any) -> None:
    """Add the verb to the parser of the command."""
    parser = verbs.add_parser("rve", help="periodic cells: solve them, and make surrogates of them")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    solve = actions.add_parser("solve", help="average stress and consistent tangent for each strain")
    solve.add_argument("mesh", help="file of a mesh that fills a box, phases by physical name, or RVE .h5")
    solve.add_argument("--laws", metavar="FILE", help="TOML: [phase] with law = NAME and its parameters")
    solve.add_argument(
        "--strain",
        metavar="XX,YY,XY",
        action="append",
        required=True,
        help="engineering strains xx,yy,xy or xx,yy,zz,yz,xz,xy (shear: twice the tensor's); several times "
        "for several",
    )
    solve.add_argument("--degree", type=int, default=2, help="of the displacement; default: 2")
    solve.add_argument("-o", metavar="FILE", dest="output", help="local fields: .vtu, .xdmf, .png")
    solve.set_defaults(run=_solve)
    add_actions(actions)


def _solve(chosen: argparse.Namespace) -> None:
    from spon._compat import require_dolfinx

    require_dolfinx()
    import torch
    from mpi4py import MPI

    from spon.errors import agree
    from spon.multiscale.fe_model import solve_cases
    from spon.multiscale.rve_output import write_local_fields

    comm = MPI.COMM_WORLD
    with agree(comm):
        strains = torch.tensor([_numbers(text) for text in chosen.strain], dtype=torch.float64)
    rve = cell(chosen.mesh, chosen.laws, chosen.degree, comm)
    found = solve_cases(rve, strains, comm)
    with agree(comm):
        if comm.rank > 0:
            return
        for case in range(len(strains)):
            print("\n".join(_described(strains[case], found, case)), flush=True)
            if chosen.output is not None:
                path = Path(chosen.output)
                if len(strains) > 1:
                    path = path.with_name(f"{path.stem}_{case}{path.suffix}")
                write_local_fields(path, rve, strains[case], found.fluctuation[case])
                print(f"  {path}", flush=True)


def cell(mesh: str, laws: str | None, degree: int, comm: Any) -> Any:
    """Read or load the cell that the command line names. Collective.

    Raises:
        SponError: on all ranks: laws for a stored cell, or none for a mesh; see `RVE.load`, `read_laws` and
            `read_rve`.
    """
    from spon.errors import agree
    from spon.multiscale.laws import read_laws
    from spon.multiscale.rve import RVE
    from spon.multiscale.rve_reader import read_rve

    with agree(comm):
        stored = Path(mesh).suffix == ".h5"
        if stored == (laws is not None):
            raise SponError("--laws FILE goes with a mesh; an RVE .h5 has its laws")
        if stored:
            return RVE.load(mesh)
        materials = read_laws(str(laws))
    return read_rve(mesh, materials, degree, comm=comm)


def _numbers(text: str) -> list[float]:
    from spon.multiscale.voigt import COMPONENTS

    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise SponError(f"--strain {text}: allowed: numbers with commas between") from error
    if len(values) not in COMPONENTS:
        raise SponError(f"--strain {text}: {len(values)} numbers; allowed: 3 (plane strain), 6")
    return values


def _described(strain: Any, found: Any, case: int) -> list[str]:
    from spon.multiscale.voigt import COMPONENTS

    names = COMPONENTS[len(strain)]
    lines = [
        "strain   " + "".join(f"{name:>3} {v:<12.6g}" for name, v in zip(names, strain.tolist(), strict=True))
    ]
    stress = found.stress[case].tolist()
    lines.append(
        "stress   " + "".join(f"{name:>3} {v:<12.6g}" for name, v in zip(names, stress, strict=True))
    )
    for number, row in enumerate(found.tangent[case].tolist()):
        lines.append(("tangent  " if number == 0 else " " * 9) + "".join(f"{v:>16.6g}" for v in row))
    lines.append(
        f"  {int(found.iterations[case])} steps of Newton's method, relative residual "
        f"{float(found.residual[case]):.2g}"
    )
    return lines
