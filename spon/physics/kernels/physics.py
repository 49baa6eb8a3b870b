"""The equations of a data set, in words that need no DOLFINx."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from spon.level import Reference
from spon.storage import MatrixReader, write_csr

__all__ = ["Physics"]


@dataclass(frozen=True)
class Physics:
    """F(u; m) = a kernel's internal forces minus a load, of which a data set carries the numbers.

    Args:
        kernel: "diffusion", "elasticity" or "neo-hookean".
        load: (DoFs,) the same for all samples, of which boundary values are no part.
        coefficient: name of the input that multiplies the kernel, such as κ or Young's modulus; None: 1.
        constants: of the kernel, such as Poisson's ratio.
        loads: (DoFs, DoFs of all inputs), what the inputs add to the load; None: nothing.
        rule: the element of the output with the quadrature of the form; None: that of the finest level.
        coefficient_cells: (cells, n) DoFs of the coefficient in each cell.
        coefficient_values: (quadrature points of a cell, n) its basis functions there.
        load_steps: in how many steps a nonlinear problem is loaded.
    """

    kernel: str
    load: npt.NDArray[np.float64]
    coefficient: str | None = None
    constants: Mapping[str, Any] = field(default_factory=dict)
    loads: sp.csr_array | None = None
    rule: Reference | None = None
    coefficient_cells: npt.NDArray[np.int64] | None = None
    coefficient_values: npt.NDArray[np.float64] | None = None
    load_steps: int = 1

    def write(self, group: h5py.Group) -> None:
        """Write into an open HDF5 group."""
        group.attrs["kernel"] = self.kernel
        group.attrs["coefficient"] = self.coefficient or ""
        group.attrs["constants"] = json.dumps(dict(self.constants))
        group.attrs["load_steps"] = self.load_steps
        group["load"] = self.load
        if self.loads is not None:
            write_csr(group, "loads", self.loads)
        if self.rule is not None:
            self.rule.write(group.create_group("rule"))
        if self.coefficient_cells is not None:
            group["coefficient_cells"] = self.coefficient_cells
            group["coefficient_values"] = self.coefficient_values

    @classmethod
    def read(cls, group: h5py.Group) -> Physics:
        """Read from an open HDF5 group."""
        tables = {
            name: group[name][()] if name in group else None
            for name in ("coefficient_cells", "coefficient_values")
        }
        return cls(
            str(group.attrs["kernel"]),
            group["load"][()],
            str(group.attrs["coefficient"]) or None,
            json.loads(group.attrs["constants"]),
            MatrixReader().find(group, "loads"),
            Reference.read(group["rule"]) if "rule" in group else None,
            **tables,
            load_steps=int(group.attrs["load_steps"]),
        )
