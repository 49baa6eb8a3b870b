"""Render a coloured surface with pyvista, in a process of its own: without OpenGL, VTK ends the process."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["rendered"]

_SECONDS = 120.0


def rendered(
    points: npt.NDArray[np.float64],
    triangles: npt.NDArray[np.int64],
    colour: npt.NDArray[np.float64],
    style: dict[str, Any],
) -> Any:
    """Return a picture of a surface, or None where pyvista is missing or cannot draw.

    Args:
        points: (n, 3).
        triangles: (m, 3) numbers of points.
        colour: (n,).
        style: `cmap`, `vmin`, `vmax`.

    Returns:
        (height, width, channels) float32.
    """
    if importlib.util.find_spec("pyvista") is None:
        return None
    from matplotlib.image import imread

    with tempfile.TemporaryDirectory() as folder:
        scene, picture = Path(folder, "scene.npz"), Path(folder, "picture.png")
        np.savez(scene, points=points, triangles=triangles, colour=colour, **style)
        command = [sys.executable, __file__, str(scene), str(picture)]
        try:
            subprocess.run(command, check=True, timeout=_SECONDS, capture_output=True)
            return imread(picture)
        except (OSError, subprocess.SubprocessError):
            return None


def _main(scene: str, picture: str) -> None:
    import pyvista

    with np.load(scene) as data:
        arrays = dict(data)
    corners = np.pad(arrays["triangles"], ((0, 0), (1, 0)), constant_values=3)
    body = pyvista.PolyData(arrays["points"], corners)
    plotter = pyvista.Plotter(off_screen=True, window_size=(900, 800))
    plotter.set_background("white")
    limits = (float(arrays["vmin"]), float(arrays["vmax"]))
    plotter.add_mesh(
        body,
        scalars=arrays["colour"],
        cmap=str(arrays["cmap"]),
        clim=limits,
        show_scalar_bar=False,
        ambient=0.7,
        diffuse=0.4,
    )
    plotter.add_axes(color="black")
    plotter.camera_position = "iso"
    plotter.camera.azimuth = -100
    plotter.camera.elevation = -10
    plotter.screenshot(picture)


if __name__ == "__main__":
    _main(*sys.argv[1:])
