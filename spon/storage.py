"""HDF5 groups of arrays, with a checksum that finds any alteration."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.sparse as sp

from spon.errors import SponError

__all__ = ["MatrixReader", "check", "open_hdf5", "seal", "write_csr"]


def open_hdf5(path: str | Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises:
        SponError: no such file, or not a readable HDF5 file.
    """
    if not Path(path).exists():
        raise SponError(f"no such file: {path}")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise SponError(f"{path}: not a readable HDF5 file: {error}") from error


def write_csr(group: h5py.Group, name: str, matrix: sp.csr_array) -> None:
    """Write a sparse matrix as a group of `indptr`, `indices` (32 bit) and `data`."""
    inner = group.create_group(name)
    inner.attrs["shape"] = matrix.shape
    inner["indptr"] = matrix.indptr.astype(np.int64)
    inner["indices"], inner["data"] = matrix.indices.astype(np.int32), matrix.data


class MatrixReader:
    """Reads sparse matrices; one that a file holds under several names becomes one object."""

    def __init__(self) -> None:
        self._known: dict[int, sp.csr_array] = {}

    def read(self, group: h5py.Group, name: str) -> sp.csr_array:
        """Read a matrix that `write_csr` wrote."""
        inner = group[name]
        address = h5py.h5o.get_info(inner.id).addr
        if address not in self._known:
            parts = (inner["data"][()], inner["indices"][()], inner["indptr"][()])
            self._known[address] = sp.csr_array(parts, shape=tuple(inner.attrs["shape"]))
        return self._known[address]

    def find(self, group: h5py.Group, name: str) -> sp.csr_array | None:
        """Read a matrix that may not be there."""
        return self.read(group, name) if name in group else None


def seal(group: h5py.Group) -> None:
    """Write the SHA-256 of everything in a group beside it."""
    group.attrs["checksum"] = _digest(group)


def check(group: h5py.Group, what: str) -> None:
    """Compare a group with its checksum.

    Raises:
        SponError: a value, a name or a shape differs from what was written.
    """
    try:
        found = _digest(group)
    except OSError as error:
        raise SponError(f"{group.file.filename}: incomplete or damaged {what}: {error}") from error
    if found != group.attrs.get("checksum"):
        raise SponError(f"{group.file.filename}: the {what} was altered: its checksum does not fit")


def _digest(group: h5py.Group) -> str:
    digest = hashlib.sha256()
    for name, item in _walk(group, ""):
        attributes = {k: np.asarray(v).tolist() for k, v in item.attrs.items() if k != "checksum"}
        digest.update(f"{name} {sorted(attributes.items())}".encode())
        if isinstance(item, h5py.Dataset):
            array = np.ascontiguousarray(item[()])
            digest.update(f"{array.dtype.str} {array.shape}".encode())
            if array.dtype == object:  # text: the array holds addresses
                digest.update(repr(array.tolist()).encode())
            else:
                digest.update(array.data if array.size else b"")
    return digest.hexdigest()


def _walk(group: h5py.Group, prefix: str) -> Iterator[tuple[str, Any]]:
    yield prefix, group
    for name in sorted(group):
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from _walk(item, f"{prefix}/{name}")
        else:
            yield f"{prefix}/{name}", item
