"""Data sets: inputs and outputs of an operator with the discretisation that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.files import replacing
from spon.physics.kernels.physics import Physics
from spon.storage import open_hdf5

__all__ = ["FORMAT", "Dataset", "Failure"]

FORMAT = 2

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
_TEXT = h5py.string_dtype()


@dataclass(frozen=True)
class Failure:
    """A sample that could not be solved.

    Args:
        number: of the sample.
        reason: one line.
    """

    number: int
    reason: str


@dataclass(frozen=True)
class Dataset:
    """Samples of an operator, DoFs in canonical order.

    Layout of the HDF5 file: `inputs` (samples, DoFs of all inputs, one input after the other in the order
    of the discretisation) and `outputs` (samples, DoFs), float64; `numbers` (samples,) int64;
    `statistics/NAME` (samples,); `failures/numbers` and `failures/reasons`; `normalisation/inputs`
    (2, inputs) and `normalisation/outputs` (2,): mean and standard deviation over the training part; the
    groups `discretisation` and, where the equations are known, `physics`; attributes `format`, `seed` (-1
    for data that were not generated), `output_name`, `units` and `boundary_data` ((n, 2) names and
    values), and `split` (sizes of consecutive parts, the training samples first).

    Args:
        discretisation: spaces of inputs and output.
        inputs: (samples, DoFs of all inputs) float64.
        outputs: (samples, DoFs) float64.
        numbers: (samples,) number of each sample; with `seed` it determines the input.
        seed: of the random inputs; None for data that were not generated.
        output_name: of the output, for files and plots.
        units: of inputs and output by name.
        boundary_data: input → named boundary where the output takes the values of that input.
        statistics: name → (samples,), such as the `seconds` and `iterations` of each solve.
        failures: samples that are missing because they could not be solved.
        sizes: of the consecutive parts that the samples are split into, the training samples first;
            empty: not split.
        physics: the equations, where a kernel has them.

    Raises:
        SponError: shapes that do not fit each other or the discretisation; values not finite; an
            unknown input or boundary in `boundary_data`; parts with more samples than there are.
    """

    discretisation: Discretisation
    inputs: Floats
    outputs: Floats
    numbers: Integers
    seed: int | None = None
    output_name: str = "u"
    units: Mapping[str, str] = field(default_factory=dict)
    boundary_data: Mapping[str, str] = field(default_factory=dict)
    statistics: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    sizes: tuple[int, ...] = ()
    physics: Physics | None = None

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
        for name, values in self.statistics.items():
            if np.shape(values) != (len(self.numbers),):
                raise SponError(f"'{name}' of shape {np.shape(values)}; allowed: ({len(self.numbers)},)")
        for name, boundary in self.boundary_data.items():
            if name not in d.inputs or boundary not in d.boundary_dofs:
                raise SponError(
                    f"boundary data '{name}' on '{boundary}'; allowed: inputs {', '.join(d.inputs)} on "
                    f"boundaries {', '.join(d.boundary_dofs) or 'none'}"
                )
        if self.sizes:
            self._check_sizes(self.sizes)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, samples: slice | npt.NDArray[np.integer]) -> Dataset:
        """Return the chosen samples as a data set that is not split."""
        chosen: dict[str, Any] = {k: getattr(self, k)[samples] for k in ("inputs", "outputs", "numbers")}
        statistics = {name: values[samples] for name, values in self.statistics.items()}
        return replace(self, **chosen, statistics=statistics, sizes=())

    @property
    def seconds(self) -> Floats:
        """(samples,) wall time of each solve.

        Raises:
            SponError: the data set has no such statistics.
        """
        if "seconds" not in self.statistics:
            raise SponError(
                f"no 'seconds' in the statistics; there are: {', '.join(self.statistics) or 'none'}"
            )
        return np.asarray(self.statistics["seconds"])

    def input(self, name: str) -> Floats:
        """Return the samples of one input, (samples, DoFs).

        Raises:
            SponError: an unknown name.
        """
        first = 0
        for known, space in self.discretisation.inputs.items():
            if known == name:
                return self.inputs[:, first : first + space.dofs]
            first += space.dofs
        raise SponError(f"input '{name}'; allowed: {', '.join(self.discretisation.inputs)}")

    @cached_property
    def shifts(self) -> Floats | None:
        """(samples, DoFs) u_g of each sample where inputs are boundary data, else None."""
        if not self.boundary_data:
            return None
        data = {boundary: self.input(name) for name, boundary in self.boundary_data.items()}
        return self.discretisation.with_boundary_data(data)

    def _check_sizes(self, sizes: tuple[int, ...]) -> None:
        if min(sizes) < 1 or sum(sizes) > len(self):
            raise SponError(f"cannot split {len(self)} samples into {', '.join(map(str, sizes))}")

    def split(self, *sizes: int) -> tuple[Dataset, ...]:
        """Cut into consecutive parts.

        Args:
            sizes: number of samples in each part, at most all together; default: those that the
                data set was made with.

        Raises:
            SponError: a part is empty, more samples are asked for than there are, or no sizes are known.
        """
        sizes = sizes or self.sizes
        if not sizes:
            raise SponError("the data set is not split; allowed: sizes of the parts, such as split(200, 50)")
        self._check_sizes(sizes)
        starts = [sum(sizes[:k]) for k in range(len(sizes))]
        return tuple(self[s : s + k] for s, k in zip(starts, sizes, strict=True))

    def parts(self) -> tuple[Dataset, Dataset, Dataset]:
        """Return the training, validation and test samples.

        The first of the parts that the data set was made with is for training, the last for testing,
        a second of three for validation. Without a validation part it is the last tenth of the training
        samples; data that are not split at all are, into 80, 10 and 10 %.

        Raises:
            SponError: more than three parts, or too few samples.
        """
        sizes = self.sizes or (len(self) - len(self) // 10, len(self) // 10)
        if len(sizes) > 3:
            raise SponError(f"{len(sizes)} parts; allowed: training, validation and test")
        if len(sizes) == 1:
            sizes = (sizes[0] - sizes[0] // 10, sizes[0] // 10)
        if len(sizes) == 2:
            held_back = max(1, sizes[0] // 10)
            sizes = (sizes[0] - held_back, held_back, sizes[1])
        train, validation, test = self.split(*sizes)
        return train, validation, test

    def normalisation(self) -> tuple[Floats, Floats]:
        """Return mean and standard deviation over the training part, of each input and of the output.

        Returns:
            (2, inputs) and (2,), over all DoFs of the samples.
        """
        count = self.sizes[0] if self.sizes else len(self)
        found = [self.input(name)[:count] for name in self.discretisation.inputs]
        inputs = np.array([[values.mean(), values.std()] for values in found]).T
        outputs = self.outputs[:count]
        return inputs, np.array([outputs.mean(), outputs.std()])

    def save(self, path: str | Path) -> None:
        """Write an HDF5 file; the name appears when the file is complete."""
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            self.write(file)

    def write(self, group: h5py.Group) -> None:
        """Write into an open HDF5 group."""
        group.attrs["format"] = FORMAT
        group.attrs["seed"] = -1 if self.seed is None else self.seed
        group.attrs["output_name"] = self.output_name
        for name in ("units", "boundary_data"):
            pairs = np.array(list(getattr(self, name).items()), dtype=object).reshape(-1, 2)
            group.attrs.create(name, pairs, dtype=_TEXT)
        group.attrs["split"] = np.array(self.sizes, dtype=np.int64)
        for key in ("inputs", "outputs", "numbers"):
            group[key] = getattr(self, key)
        for name, values in self.statistics.items():
            group[f"statistics/{name}"] = values
        group["failures/numbers"] = np.array([f.number for f in self.failures], dtype=np.int64)
        reasons = np.array([f.reason for f in self.failures], dtype=object)
        group.create_dataset("failures/reasons", data=reasons, dtype=_TEXT)
        if len(self):
            group["normalisation/inputs"], group["normalisation/outputs"] = self.normalisation()
        if self.physics is not None:
            self.physics.write(group.create_group("physics"))
        self.discretisation.write(group.create_group("discretisation"))

    @classmethod
    def load(cls, path: str | Path) -> Dataset:
        """Read an HDF5 file; needs neither DOLFINx nor MPI.

        Raises:
            SponError: no such file, not a data set, another format version, or damaged.
        """
        with open_hdf5(path) as file:
            if "members" in file:
                raise SponError(f"{path}: holds several data sets; read it with spon.DatasetCollection.load")
            return cls.read(file)

    @classmethod
    def read(cls, group: h5py.Group) -> Dataset:
        """Read from an open HDF5 group.

        Raises:
            SponError: not a data set, another format version, or damaged.
        """
        path = group.file.filename
        if "discretisation" not in group or "format" not in group.attrs:
            raise SponError(f"{path}: is not a spon data set")
        if group.attrs["format"] != FORMAT:
            raise SponError(f"{path}: data set format {group.attrs['format']}; allowed: {FORMAT}")
        discretisation = Discretisation.read(group["discretisation"])
        try:
            reasons = [str(r) for r in group["failures/reasons"].asstr()[()]]
            numbers = [int(n) for n in group["failures/numbers"][()]]
            seed = int(group.attrs["seed"])
            content = {
                "inputs": group["inputs"][()],
                "outputs": group["outputs"][()],
                "numbers": group["numbers"][()],
                "seed": None if seed < 0 else seed,
                "output_name": str(group.attrs["output_name"]),
                "units": _pairs(group.attrs["units"]),
                "boundary_data": _pairs(group.attrs["boundary_data"]),
                "statistics": {n: v[()] for n, v in group.get("statistics", {}).items()},
                "failures": tuple(Failure(n, r) for n, r in zip(numbers, reasons, strict=True)),
                "sizes": tuple(int(n) for n in group.attrs["split"]),
                "physics": Physics.read(group["physics"]) if "physics" in group else None,
            }
        except (KeyError, OSError, ValueError) as error:
            raise SponError(f"{path}: incomplete or damaged data set: {error}") from error
        return cls(discretisation, **content)


def _pairs(attribute: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in np.reshape(attribute, (-1, 2))}
