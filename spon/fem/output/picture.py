"""Pictures of fields, one panel for each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LightSource, Normalize
from matplotlib.figure import Figure
from matplotlib.tri import Triangulation
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from spon.fem.mesh import TaggedMesh
from spon.fem.output.fields import Field
from spon.fem.output.render import rendered
from spon.fem.output.surface import edges_of, inside, surface
from spon.fem.transfer import Location, evaluation
from spon.files import replacing

__all__ = ["write_png"]

Floats = npt.NDArray[np.float64]

_ARROWS = 20  # along the longer side
_FEW = 1500  # cells whose edges can be seen


def write_png(path: Path, fields: list[Field], units: Mapping[str, str]) -> None:
    """Draw scalars by colour, and vectors by magnitude with arrows.

    Args:
        path: to make or replace.
        fields: checked, of one step.
        units: name → unit.
    """
    mesh = fields[0].space.mesh
    extent = np.ptp(mesh.arrays.points, axis=0)
    wide = math.ceil(math.sqrt(len(fields)))
    tall = -(-len(fields) // wide)
    flat = mesh.arrays.gdim == 2
    aspect = float(np.clip(extent[1] / extent[0], 0.15, 4.0)) if flat else 0.85
    width = 5.0 if aspect <= 1.2 else 6.0 / aspect
    size = ((width + 1.4) * wide, (width * aspect + 0.7) * tall)
    figure = Figure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(wspace=0.06, hspace=0.06)
    for number, field in enumerate(fields):
        place = (tall, wide, number + 1)
        axis, drawn, label = _plane(figure, place, field) if flat else _space(figure, place, field)
        unit = f" [{units[field.name]}]" if units.get(field.name) else ""
        bar = figure.colorbar(drawn, ax=axis, shrink=0.85, aspect=22, pad=0.02 if flat else 0.09)
        words = (label + unit).replace("$", r"\$")  # else the start of a formula
        short = {"rotation": 0, "ha": "left", "va": "center"} if len(words) <= 3 else {}
        bar.set_label(words, labelpad=8, **short)
        bar.formatter.set_powerlimits((-3, 4))
        title = f"{field.name}  ({field.space.name})".replace("$", r"\$")
        axis.set_title(title, fontsize="medium")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)


def _values(field: Field, where: Location) -> tuple[Floats, Floats | None, str]:
    """Return what the colour shows, (n,), the vectors, (n, gdim) or None, and words for the colour."""
    values = (evaluation(field.space, where) @ field.values[0]).reshape(len(where.cells), -1)
    if values.shape[1] == 1:
        return values[:, 0], None, field.name
    magnitude = np.linalg.norm(values, axis=1)
    gdim = field.space.mesh.arrays.gdim
    return magnitude, values if values.shape[1] == gdim else None, f"|{field.name}|"


def _colours(values: Floats, magnitude: bool) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    if high - low <= 1e-12 * max(abs(low), abs(high)):  # a constant: no noise in the colours
        low, high = low - max(0.5 * abs(low), 0.5), high + max(0.5 * abs(high), 0.5)
    return {"cmap": "viridis" if magnitude else "inferno", "vmin": low, "vmax": high}


def _intervals(field: Field, pieces: int) -> int:
    """Return into how many intervals an edge is cut, so that curves and degrees show."""
    geometry = field.space.mesh.geometry
    simple = geometry.affine and field.degree <= 1
    if simple:
        return 1
    wanted = 2 * max(field.degree, field.space.mesh.arrays.degree)
    return int(np.clip(np.sqrt(4e5 / max(pieces, 1)), 2, min(wanted, 8)))


def _plane(figure: Any, place: tuple[int, int, int], field: Field) -> tuple[Any, Any, str]:
    axis = figure.add_subplot(*place)
    mesh = field.space.mesh
    patches = inside(mesh, _intervals(field, len(mesh.arrays.cells)))
    colour, vectors, label = _values(field, patches.where)
    x = mesh.geometry.points(patches.where.cells, patches.where.X)
    triangulation = Triangulation(*x.T, patches.triangles)
    style = _colours(colour, vectors is not None)
    drawn = axis.tripcolor(triangulation, colour, shading="gouraud", rasterized=True, **style)
    _outline(axis, mesh)
    if vectors is not None:
        _arrows(axis, field, style)
    axis.set(aspect="equal", xlabel="x", ylabel="y")
    axis.margins(0.02)
    axis.tick_params(labelsize="small")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return axis, drawn, label


def _outline(axis: Any, mesh: TaggedMesh) -> None:
    """Draw the boundary, and the edges of the cells where there are few of them."""
    edges, boundary = edges_of(mesh)
    if len(mesh.arrays.cells) <= _FEW:
        axis.add_collection(LineCollection(edges, colors="white", linewidths=0.3, alpha=0.45))
    axis.add_collection(LineCollection(edges[boundary], colors="black", linewidths=0.8, capstyle="round"))


def _arrows(axis: Any, field: Field, style: dict[str, Any]) -> None:
    """Draw arrows at points of cells, one at most for each square of a grid."""
    mesh = field.space.mesh
    intervals = math.ceil(3 * _ARROWS / math.sqrt(len(mesh.arrays.cells)))
    patches = inside(mesh, intervals)
    cells, X = patches.where.cells[patches.triangles[:, 0]], patches.where.X[patches.triangles].mean(axis=1)
    x = mesh.geometry.points(cells, X)
    pitch = np.ptp(mesh.arrays.points, axis=0).max() / _ARROWS
    square = (x - mesh.arrays.points.min(axis=0)) / pitch
    off_centre = np.abs(square - np.floor(square) - 0.5).max(axis=1)
    order = np.argsort(off_centre, kind="stable")
    _, first = np.unique(np.floor(square[order]).astype(np.int64), axis=0, return_index=True)
    chosen = np.sort(order[first])
    _, vectors, _ = _values(field, Location(cells[chosen], X[chosen]))
    assert vectors is not None
    longest = float(np.linalg.norm(vectors, axis=1).max(initial=0.0))
    if longest == 0.0:
        return
    axis.quiver(
        *x[chosen].T, *vectors.T, angles="xy", scale_units="xy", scale=longest / (1.1 * pitch), pivot="mid",
        color="white", edgecolor="black", linewidth=0.4, width=0.0045,
    )  # fmt: skip


def _space(figure: Any, place: tuple[int, int, int], field: Field) -> tuple[Any, Any, str]:
    """Draw the surface of a solid, by pyvista where that works: matplotlib sorts faces by their middles."""
    mesh = field.space.mesh
    outer = int((mesh.topology.facet_cells == 1).sum())
    patches = surface(mesh, int(np.clip(np.sqrt(2e4 / max(outer, 1)), 1, 6)))
    colour, vectors, label = _values(field, patches.where)
    x = mesh.geometry.points(patches.where.cells, patches.where.X)
    style = _colours(colour, vectors is not None)
    scale = ScalarMappable(Normalize(style["vmin"], style["vmax"]), matplotlib.colormaps[style["cmap"]])
    picture = rendered(x, patches.triangles, colour, style)
    if picture is not None:
        axis = figure.add_subplot(*place)
        axis.imshow(picture)
        axis.set_axis_off()
        return axis, scale, label
    axis = figure.add_subplot(*place, projection="3d")
    _faces(axis, x[patches.triangles], scale.to_rgba(colour[patches.triangles].mean(axis=1)))
    return axis, scale, label


def _faces(axis: Any, corners: Floats, colours: Floats) -> None:
    """Draw triangles (n, 3, 3) with colours (n, 4)."""
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    light = np.abs(normal / np.where(length > 0, length, 1.0) @ LightSource(300, 50).direction)
    colours[:, :3] *= (0.88 + 0.12 * light)[:, None]
    axis.add_collection3d(Poly3DCollection(corners, facecolors=colours, antialiaseds=False, linewidths=0))
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    axis.set(xlabel="x", ylabel="y", zlabel="z")
    axis.set_box_aspect(high - low, zoom=0.9)
    axis.view_init(elev=24, azim=-52)
    axis.tick_params(labelsize="x-small")
