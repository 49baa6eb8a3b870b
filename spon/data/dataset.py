"""Data sets: pairs of inputs and outputs with the discretisation that they belong to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.files import replacing
from spon.storage import open_hdf5

__all__ = ["Dataset"]

FORMAT = 1


@dataclass(frozen=True)
class Dataset:
    """Samples of an operator, DoFs in canonical order.

    Layout of the HDF5 file: `inputs` and `outputs` (samples, DoFs) float64, `seconds` (samples,),
    `numbers` (samples,) int64, the group `discretisation`; attributes `format`, `seed`,
    `input_name`, `output_name`, `input_units`, `output_units`.

    Args:
        discretisation: spaces of inputs and outputs.
        inputs: (samples, DoFs) float64.
        outputs: (samples, DoFs) float64.
        numbers: (samples,) number of each sample; with `seed` it determines the input.
        seconds: (samples,) wall time of each finite-element solve.
        seed: of the random inputs.
        names: of input and output.
        units: of input and output.

    Raises:
        SponError: shapes that do not fit each other or the discretisation; values not finite.
    """

    discretisation: Discretisation
    inputs: npt.NDArray[np.float64]
    outputs: npt.NDArray[np.float64]
    numbers: npt.NDArray[np.int64]
    seconds: npt.NDArray[np.float64]
    seed: int
    names: tuple[str, str]
    units: tuple[str, str]

    def __post_init__(self) -> None:
        d = self.discretisation
        widths = {"inputs": sum(space.dofs for space in d.inputs.values()), "outputs": d.dofs}
        for what, values in (("inputs", self.inputs), ("outputs", self.outputs)):
            expected = (len(self.numbers), widths[what])
            if values.shape != expected:
                raise SponError(f"{what} of shape {values.shape}; allowed: {expected}")
            if not np.isfinite(values).all():
                bad = self.numbers[~np.isfinite(values).all(axis=1)][0]
                raise SponError(f"{what} of sample {bad} are not finite")

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, samples: slice | npt.NDArray[np.integer]) -> Dataset:
        """Return the chosen samples as a data set."""
        chosen = {k: getattr(self, k)[samples] for k in ("inputs", "outputs", "numbers", "seconds")}
        return replace(self, **chosen)

    def split(self, *sizes: int) -> tuple[Dataset, ...]:
        """Cut into consecutive parts.

        Args:
            sizes: number of samples in each part, at most all together.

        Raises:
            SponError: a part is empty, or more samples are asked for than there are.
        """
        if min(sizes) < 1 or sum(sizes) > len(self):
            raise SponError(f"cannot split {len(self)} samples into {', '.join(map(str, sizes))}")
        starts = [sum(sizes[:k]) for k in range(len(sizes))]
        return tuple(self[s : s + k] for s, k in zip(starts, sizes, strict=True))

    def save(self, path: str | Path) -> None:
        """Write an HDF5 file; the name appears when the file is complete."""
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            file.attrs["format"] = FORMAT
            file.attrs["seed"] = self.seed
            file.attrs["input_name"], file.attrs["output_name"] = self.names
            file.attrs["input_units"], file.attrs["output_units"] = self.units
            for key in ("inputs", "outputs", "numbers", "seconds"):
                file[key] = getattr(self, key)
            self.discretisation.write(file.create_group("discretisation"))

    @classmethod
    def load(cls, path: str | Path) -> Dataset:
        """Read an HDF5 file; needs neither DOLFINx nor MPI.

        Raises:
            SponError: no such file, not a data set, another format version, or damaged.
        """
        with open_hdf5(path) as file:
            if "discretisation" not in file or "format" not in file.attrs:
                raise SponError(f"{path}: is not a spon data set")
            if file.attrs["format"] != FORMAT:
                raise SponError(f"{path}: data set format {file.attrs['format']}; allowed: {FORMAT}")
            discretisation = Discretisation.read(file["discretisation"])
            try:
                arrays = {k: file[k][()] for k in ("inputs", "outputs", "numbers", "seconds")}
                names = (str(file.attrs["input_name"]), str(file.attrs["output_name"]))
                units = (str(file.attrs["input_units"]), str(file.attrs["output_units"]))
                seed = int(file.attrs["seed"])
            except (KeyError, OSError) as error:
                raise SponError(f"{path}: incomplete or damaged data set: {error}") from error
            return cls(discretisation, seed=seed, names=names, units=units, **arrays)
