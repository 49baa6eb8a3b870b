"""Data sets of one operator on several meshes, in one file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import h5py

from spon.data.dataset import Dataset
from spon.errors import SponError
from spon.files import replacing
from spon.storage import open_hdf5

__all__ = ["DatasetCollection"]

FORMAT = 1


@dataclass(frozen=True)
class DatasetCollection(Sequence[Dataset]):
    """A sequence of data sets with the same inputs, output and equations, each on a mesh of its own.

    Layout of the HDF5 file: attribute `format`; groups `members/0`, … each like the file of a `Dataset`.

    Args:
        members: one or more.

    Raises:
        SponError: none, two on the same discretisation, or different inputs, outputs, units or equations.
    """

    members: tuple[Dataset, ...]

    def __post_init__(self) -> None:
        if not self.members:
            raise SponError("a collection of 0 data sets; allowed: one or more")
        first, known = _traits(self.members[0]), set()
        for number, member in enumerate(self.members):
            for what, value in _traits(member).items():
                if value != first[what]:
                    raise SponError(
                        f"{what} of data set {number + 1}: {value}; allowed: as in the first, {first[what]}"
                    )
            known.add(member.discretisation.fingerprint)
        if len(known) < len(self.members):
            raise SponError(
                f"{len(self.members)} data sets on {len(known)} discretisations; allowed: each on its own"
            )

    def __len__(self) -> int:
        return len(self.members)

    @overload
    def __getitem__(self, index: int) -> Dataset: ...
    @overload
    def __getitem__(self, index: slice) -> DatasetCollection: ...
    def __getitem__(self, index: int | slice) -> Dataset | DatasetCollection:
        """Return a data set, or some as a collection."""
        chosen = self.members[index]
        return chosen if isinstance(chosen, Dataset) else DatasetCollection(chosen)

    def __iter__(self) -> Iterator[Dataset]:
        return iter(self.members)

    def parts(self) -> tuple[DatasetCollection, DatasetCollection, DatasetCollection]:
        """Return the training, validation and test samples on each mesh; see `Dataset.parts`.

        Raises:
            SponError: as there.
        """
        train, validation, test = zip(*(member.parts() for member in self.members), strict=True)
        return DatasetCollection(train), DatasetCollection(validation), DatasetCollection(test)

    @classmethod
    def merge(cls, collections: Iterable[Iterable[Dataset]]) -> DatasetCollection:
        """Return all data sets of several collections, in their order.

        Raises:
            SponError: they do not fit each other.
        """
        return cls(tuple(member for collection in collections for member in collection))

    def save(self, path: str | Path) -> None:
        """Write an HDF5 file; the name appears when the file is complete."""
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            file.attrs["format"] = FORMAT
            for number, member in enumerate(self.members):
                member.write(file.create_group(f"members/{number}"))

    @classmethod
    def load(cls, path: str | Path) -> DatasetCollection:
        """Read an HDF5 file; needs neither DOLFINx nor MPI. A single data set is a collection of one.

        Raises:
            SponError: no such file, no data sets, another format version, or damaged.
        """
        with open_hdf5(path) as file:
            if "members" not in file:
                return cls((Dataset.read(file),))
            if file.attrs.get("format") != FORMAT:
                raise SponError(f"{path}: collection format {file.attrs.get('format')}; allowed: {FORMAT}")
            groups = [file["members"].get(str(number)) for number in range(len(file["members"]))]
            if not all(isinstance(group, h5py.Group) for group in groups):
                raise SponError(f"{path}: incomplete or damaged collection of data sets")
            return cls(tuple(Dataset.read(group) for group in groups))


def _traits(dataset: Dataset) -> dict[str, Any]:
    """What must be the same on all meshes."""
    physics = dataset.physics
    return {
        "spaces": dataset.discretisation.kind,
        "output name": dataset.output_name,
        "units": dict(dataset.units),
        "boundary data": dict(dataset.boundary_data),
        "equations": None
        if physics is None
        else {"kernel": physics.kernel, "coefficient": physics.coefficient} | dict(physics.constants),
    }
