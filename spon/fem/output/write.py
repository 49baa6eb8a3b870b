"""Write fields for ParaView, or as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spon.errors import MissingDependencyError, SponError, agree
from spon.fem.canonical import CanonicalOrder
from spon.fem.output.fields import Field, Floats, Space, checked_times, collect
from spon.fem.output.vtx import write_vtx
from spon.fem.spaces import CanonicalSpace

__all__ = ["write"]

SUFFIXES = (".bp", ".xdmf", ".vtu", ".pvd", ".png")
_SERIES = (".bp", ".xdmf", ".pvd")


def write(
    path: str | Path,
    order: Space | Mapping[str, Space] | Mapping[Any, Any] | None,
    fields: Mapping[Any, Any] | None = None,
    times: Sequence[float] | None = None,
    units: Mapping[str, str] | None = None,
) -> None:
    """Write fields of any spaces on one mesh. Collective over the communicator of the mesh.

    | suffix  | made by         | holds                                                             |
    |---------|-----------------|-------------------------------------------------------------------|
    | `.bp`   | ADIOS2 (VTX)    | any Lagrange or DG degree; one space for all fields of a file     |
    | `.xdmf` | meshio, rank 0  | straight cells, with values at vertices and constants on cells    |
    | `.vtu`  | meshio, rank 0  | cells of first or second order, with jumps where there are any    |
    | `.pvd`  | meshio, rank 0  | one `.vtu` for each time, beside it                               |
    | `.png`  | matplotlib      | a picture; of the surface in space                                |

    Where fields have different spaces, or are of H(div) or H(curl), all are interpolated to the
    Lagrange or DG space that holds them (on cells that are not affine, H(div) and H(curl) fields lie
    in no such space; their values at its nodes are exact). What the format cannot hold loses degrees
    with a warning. Vectors get three components; members of a mixed space are fields of their own.

    Args:
        path: file to make or replace; its suffix says the format. `.xdmf` has its `.h5` beside it.
        order: space of the fields, `CanonicalOrder` or `CanonicalSpace`; or one for each name; or
            None where `fields` holds pairs.
        fields: name → (DoFs,) in canonical order, or (steps, DoFs) with `times`, or a pair of a space
            and such values; the same on every rank. Members of a mixed field are called `name_0`, …,
            or a tuple of names stands for the name.
        times: (steps,) increasing, for `.bp`, `.xdmf` and `.pvd`.
        units: name → unit, for the colour bars of a picture.

    Raises:
        SponError: on all ranks: unknown suffix, unwritable path, values of a wrong shape, names that
            the format cannot have, times that do not increase.
        MissingDependencyError: meshio, matplotlib or ADIOS2 is missing.
    """
    path = Path(path)
    if fields is None:
        order, fields = None, order if isinstance(order, Mapping) else {}
    comm = _comm(order, fields)
    with agree(comm):
        if path.suffix not in SUFFIXES:
            raise SponError(f"{path}: unknown output format; allowed: {', '.join(SUFFIXES)}")
        steps = checked_times(times)
        if steps is not None and path.suffix not in _SERIES:
            raise SponError(f"{path}: {path.suffix} has no times; allowed: {', '.join(_SERIES)}")
        ready = collect(order, fields, steps, path.suffix)
    if path.suffix == ".bp":
        write_vtx(path, ready, steps)
        return
    with agree(comm):
        if comm.rank == 0:
            _write_on_one_rank(path, ready, steps, units or {})


def _comm(order: Any, fields: Mapping[Any, Any]) -> Any:
    for candidate in (order, *(order.values() if isinstance(order, Mapping) else ()), *fields.values()):
        space = candidate[0] if isinstance(candidate, tuple) and candidate else candidate
        if isinstance(space, CanonicalOrder | CanonicalSpace):
            return space.mesh.comm
    raise SponError("the fields have no space; allowed: a CanonicalOrder or CanonicalSpace for each")


def _write_on_one_rank(
    path: Path, fields: list[Field], times: Floats | None, units: Mapping[str, str]
) -> None:
    package = "matplotlib" if path.suffix == ".png" else "meshio"
    try:
        if path.suffix == ".png":
            from spon.fem.output.picture import write_png

            write_png(path, fields, units)
            return
        from spon.fem.output.vtu import write_pvd, write_vtu
        from spon.fem.output.xdmf import write_xdmf
    except ImportError as error:
        raise MissingDependencyError(
            f"{path.suffix} needs {package} ({error}): pip install {package}"
        ) from error
    if path.suffix == ".xdmf":
        write_xdmf(path, fields, times)
    elif path.suffix == ".pvd":
        write_pvd(path, fields, times)
    else:
        write_vtu(path, fields)
