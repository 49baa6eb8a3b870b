"""Series of fields in XDMF files, with their arrays in an HDF5 file beside them."""

from __future__ import annotations

import h5py
from meshio.xdmf import TimeSeriesWriter

__all__ = ["Series"]


class Series(TimeSeriesWriter):
    """meshio's writer, but its `.h5` goes beside the `.xdmf` instead of the working directory."""

    def __enter__(self) -> Series:
        self.h5_filename = self.filename.with_suffix(".h5").name
        self.h5_file = h5py.File(self.filename.with_suffix(".h5"), "w")
        return self
