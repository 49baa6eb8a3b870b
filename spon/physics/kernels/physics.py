"""The equations of a data set, in words that need no DOLFINx."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

__all__ = ["Physics"]


@dataclass(frozen=True)
class Physics:
    """F(u; m) = a kernel's internal forces minus a load, of which a data set carries the numbers.

    Args:
        kernel: "diffusion", "elasticity" or "neo-hookean".
        coefficient: name of the input that multiplies the kernel, such as κ or Young's modulus; None: 1.
        constants: of the kernel, such as Poisson's ratio.
        load: (DoFs,) the same for all samples, of which boundary values are no part.
    """

    kernel: str
    load: npt.NDArray[np.float64]
    coefficient: str | None = None
    constants: Mapping[str, Any] = field(default_factory=dict)

    def write(self, group: h5py.Group) -> None:
        """Write into an open HDF5 group."""
        group.attrs["kernel"] = self.kernel
        group.attrs["coefficient"] = self.coefficient or ""
        group.attrs["constants"] = json.dumps(dict(self.constants))
        group["load"] = self.load

    @classmethod
    def read(cls, group: h5py.Group) -> Physics:
        """Read from an open HDF5 group."""
        return cls(
            str(group.attrs["kernel"]),
            group["load"][()],
            str(group.attrs["coefficient"]) or None,
            json.loads(group.attrs["constants"]),
        )
