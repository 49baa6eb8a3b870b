"""Meshes of periodic cells with fibres at random places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spon.errors import MissingDependencyError, SponError
from spon.files import replacing

__all__ = ["fibre_rve"]

Floats = npt.NDArray[np.float64]

_ATTEMPTS = 20000


def fibre_rve(
    path: str | Path,
    volume_fraction: float,
    seed: int,
    radius: float = 0.1,
    gap: float | None = None,
    size: float | None = None,
) -> None:
    """Mesh a section through unidirectional fibres, [−½, ½]², periodic. On one process.

    The number of fibres is the one whose radius is closest to that asked for; the radius is then scaled to
    the volume fraction. Centres are drawn by random sequential addition (Widom 1966, J. Chem. Phys. 44):
    fibre after fibre, uniformly, wherever none is too near, across the sides too. Fibres do not graze sides
    or corners. The mesh is of triangles of second order, with the phases "matrix" and "inclusion".

    Args:
        path: `.msh` to make or replace.
        volume_fraction: of the fibres, kept to 1e-3.
        seed: of the places.
        radius: of a fibre, about, in sides of the cell.
        gap: smallest distance between fibres; default: a tenth of the radius.
        size: of a triangle; default: 2/5 of the radius.

    Raises:
        SponError: another suffix, values that are not allowed, or fibres that cannot be packed.
        MissingDependencyError: gmsh's Python module is missing.
    """
    path = Path(path)
    if path.suffix != ".msh":
        raise SponError(f"{path}: a mesh of gmsh; allowed: .msh")
    gap, size = radius / 10 if gap is None else gap, 0.4 * radius if size is None else size
    for name, value, largest in (("volume_fraction", volume_fraction, 1), ("radius", radius, 0.4)):
        if not 0 < value < largest:
            raise SponError(f"{name} = {value}; allowed: between 0 and {largest}")
    for name, value in (("gap", gap), ("size", size)):
        if not value > 0:
            raise SponError(f"{name} = {value}; allowed: positive numbers")
    count = max(1, round(volume_fraction / (np.pi * radius**2)))
    scaled = float(np.sqrt(volume_fraction / (np.pi * count)))
    if not scaled < 0.5 - gap / 2:
        raise SponError(
            f"volume_fraction = {volume_fraction} with radius {radius}: a fibre of radius {scaled:.3g} meets "
            f"itself; allowed: less than {np.pi * count * (0.5 - gap / 2) ** 2:.3g}"
        )
    centres = _places(count, scaled, gap, np.random.default_rng(seed))
    if centres is None:
        raise SponError(
            f"cannot pack {count} fibres of radius {scaled:.4g} with gaps of {gap:.3g} (volume "
            f"fraction {volume_fraction}, seed {seed}); allowed: a lower volume fraction, a smaller gap or "
            "another seed"
        )
    try:
        import gmsh
    except ImportError as error:
        raise MissingDependencyError(f"making {path} needs gmsh's Python module ({error})") from error
    with replacing(path) as temporary:
        gmsh.initialize(interruptible=False)
        try:
            gmsh.option.setNumber("General.Terminal", 0)
            gmsh.option.setNumber("General.NumThreads", 1)  # the same mesh every time
            _draw(gmsh.model, centres, scaled)
            gmsh.option.setNumber("Mesh.MeshSizeMax", size)
            gmsh.option.setNumber("Mesh.MeshSizeFromCurvature", 20)  # thin gaps between arcs
            gmsh.option.setNumber("Mesh.ElementOrder", 2)
            gmsh.option.setNumber("Mesh.HighOrderOptimize", 1)
            try:
                gmsh.model.mesh.generate(2)
            except Exception as error:  # gmsh raises bare Exception
                detail = " ".join(str(error).split())
                raise SponError(f"{path}: gmsh cannot mesh the fibres: {detail}") from error
            gmsh.write(str(temporary))
        finally:
            gmsh.finalize()


def _places(count: int, radius: float, gap: float, rng: np.random.Generator) -> Floats | None:
    """Return centres (count, 2) in the cell, or None where no place is left."""
    centres: Floats = np.empty((0, 2))
    for _ in range(_ATTEMPTS):
        if len(centres) == count:
            return centres
        one = rng.uniform(-0.5, 0.5, 2)
        apart = np.abs(centres - one)
        apart = np.minimum(apart, 1 - apart)
        to_side = np.abs(0.5 - np.abs(one))
        grazes = abs(np.hypot(*to_side) - radius) < gap or (np.abs(to_side - radius) < gap / 2).any()
        if not grazes and (np.hypot(*apart.T) >= 2 * radius + gap).all():
            centres = np.concatenate([centres, one[None]])
    return None


def _draw(model: Any, centres: Floats, radius: float) -> None:
    """Make the geometry: matrix and fibres as surfaces, the sides periodic."""
    occ = model.occ
    square = occ.addRectangle(-0.5, -0.5, 0, 1, 1)
    shifts = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), -1).reshape(-1, 2)
    images = (centres[:, None] + shifts).reshape(-1, 2)
    beyond = np.maximum(np.abs(images) - 0.5, 0)
    images = images[np.hypot(*beyond.T) < radius]
    disks = [(2, occ.addDisk(x, y, 0, radius, radius)) for x, y in images]
    _, parts = occ.fragment([(2, square)], disks)
    inside, covered = set(parts[0]), {part for disk in parts[1:] for part in disk}
    occ.remove(sorted(covered - inside), recursive=True)
    occ.synchronize()
    for name, surfaces in (("matrix", inside - covered), ("inclusion", inside & covered)):
        model.addPhysicalGroup(2, sorted(tag for _, tag in surfaces), name=name)
    for axis, names in enumerate((("left", "right"), ("bottom", "top"))):
        sides = [_side(model, axis, value) for value in (-0.5, 0.5)]
        shift = np.eye(4)
        shift[axis, 3] = 1
        model.mesh.setPeriodic(1, sides[1], sides[0], shift.ravel().tolist())
        for name, side in zip(names, sides, strict=True):
            model.addPhysicalGroup(1, side, name=name)


def _side(model: Any, axis: int, value: float) -> list[int]:
    """Return the curves on a side of the cell, in the order of the other coordinate."""
    near, low, high = 1e-6, [-0.5, -0.5], [0.5, 0.5]
    low[axis] = high[axis] = value
    box = (*(x - near for x in low), -near, *(x + near for x in high), near)
    curves = [tag for _, tag in model.getEntitiesInBoundingBox(*box, 1)]
    return sorted(curves, key=lambda tag: model.occ.getCenterOfMass(1, tag)[1 - axis])
