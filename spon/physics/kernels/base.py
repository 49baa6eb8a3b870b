"""Weak residuals of a batch, integrated by fixed sparse maps to and from quadrature points."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.nn.sparse import SparseMap
from spon.physics.kernels.physics import Physics

__all__ = ["Kernel"]

Floats = npt.NDArray[np.float64]


class Kernel(nn.Module, ABC):
    """F(u; m) = ∫ P(∇u; m):∇v − load(m), for a Lagrange space, with the quadrature of the assembled form.

    With G = gradients at the quadrature points and w their weights, F = Gᵀ(w ⊙ P(G u)) − load. Sums have a
    fixed order: results do not depend on the number of threads. Differentiable in u and m.

    Inside, gradients H are (gdim, points, components, batch): H[d, :, c] = ∂u_c/∂x_d.

    Args:
        discretisation: whose output is a Lagrange space of one or more components.
        physics: what is integrated.
        dtype: of all tensors.

    Attributes:
        linear: whether F is affine in u.

    Raises:
        SponError: an output that is no Lagrange space, an unknown coefficient, constants that are missing
            or unknown, or a type that is neither float32 nor float64.
    """

    linear: ClassVar[bool] = True
    constants: ClassVar[tuple[str, ...]] = ()
    weights: Tensor
    constant_load: Tensor

    def __init__(
        self, discretisation: Discretisation, physics: Physics, dtype: torch.dtype = torch.float64
    ) -> None:
        super().__init__()
        d, level = discretisation, discretisation.levels[0]
        nodes, components = len(level.points), d.output.components
        lagrange = d.dofs == nodes * components and abs(d.output.features - sp.eye_array(d.dofs)).max() == 0
        if not lagrange:
            raise SponError(f"a kernel for {d.output.element}; allowed: continuous Lagrange spaces")
        if dtype not in (torch.float32, torch.float64):
            raise SponError(f"dtype {dtype}; allowed: float32, float64")
        if set(physics.constants) != set(self.constants):
            given = ", ".join(physics.constants) or "none"
            raise SponError(f"constants {given}; allowed: {', '.join(self.constants) or 'none'}")
        if physics.rule is not None:
            level = replace(level, reference=physics.rule)
        self.discretisation, self.physics, self.dtype = d, physics, dtype
        self.gdim, self.components = level.gdim, components
        self.cells = len(level.cells)
        self.gradient = SparseMap(level.gradient, dtype)
        self.register_buffer("weights", torch.as_tensor(level.weights).to(dtype), persistent=False)
        self.register_buffer("constant_load", torch.as_tensor(physics.load).to(dtype), persistent=False)
        if physics.loads is not None:
            self.loads = SparseMap(physics.loads, dtype)
        self.inputs = sum(space.dofs for space in d.inputs.values())
        if physics.coefficient is not None:
            self._first = _first_of(d, physics.coefficient)
            self.values = SparseMap(_values(physics, d, len(level.weights)), dtype)

    # ------------------------------------------------------------- of the material

    @abstractmethod
    def flux(self, H: Tensor, a: Tensor) -> Tensor:
        """Return P at gradients H, for coefficients a (points, batch), in the shape of H; linear in a."""

    @abstractmethod
    def density(self, H: Tensor, a: Tensor) -> Tensor:
        """Return the potential of P, (points, batch); infinite where P is not defined."""

    @abstractmethod
    def tangent(self, H: Tensor, a: Tensor) -> Callable[[Tensor], Tensor]:
        """Return dP: (gdim, points, components, batch) → the same shape; linear in a."""

    @abstractmethod
    def diagonal_moduli(self, H: Tensor, a: Tensor) -> Tensor:
        """Return ∂P_dc/∂H_ec, (gdim, gdim, points, components, batch), symmetric in d and e."""

    @property
    @abstractmethod
    def factor(self) -> Floats:
        """(rows, gdim · components) L, LᵀL the moduli at u = 0 for a coefficient of one."""

    @abstractmethod
    def cell_moduli(self, u: Tensor | None, m: Tensor) -> Tensor:
        """Return means over the cells of the moduli A of the tangent.

        Args:
            u: (batch, DoFs); None for linear kernels.
            m: (batch, DoFs of all inputs).

        Returns:
            (cells, batch), numbers that multiply LᵀL of `factor`; or matrices (gdim · components, gdim ·
            components, cells, batch), symmetric.
        """

    # ---------------------------------------------------------------------- public

    def coefficient(self, m: Tensor) -> Tensor:
        """Return the coefficient at the quadrature points, (points, batch), of inputs (batch, all DoFs)."""
        if self.physics.coefficient is None:
            return m.new_ones(1, 1).expand(len(self.weights), len(m))
        here = m[:, self._first : self._first + self.values.shape[1]]
        out: Tensor = self.values(here.T)
        return out

    def load(self, m: Tensor) -> Tensor:
        """Return the load, (batch, DoFs), of inputs (batch, DoFs of all inputs)."""
        out = self.constant_load.expand(len(m), -1)
        return out + self.loads(m.T).T if hasattr(self, "loads") else out

    def forward(self, u: Tensor, m: Tensor) -> Tensor:
        """Return the residual; see `residual`."""
        return self.residual(u, m)

    def residual(self, u: Tensor, m: Tensor) -> Tensor:
        """Return F(u; m), a dual vector.

        Args:
            u: (batch, DoFs) of the kernel's dtype, on its device.
            m: (batch, DoFs of all inputs).

        Returns:
            (batch, DoFs).
        """
        return self.forces(u, m) - self.load(m)

    def forces(self, u: Tensor, m: Tensor) -> Tensor:
        """Return the residual without the load, (batch, DoFs)."""
        self.check(u, m)
        return self._gathered(self.flux(self.slopes(u), self.coefficient(m) * self.weights[:, None]))

    def energy(self, u: Tensor, m: Tensor) -> Tensor:
        """Return the potential whose gradient in u is F: ∫ ψ(∇u; m) − load·u.

        Returns:
            (batch,); infinite where u has folded cells.
        """
        self.check(u, m)
        density = self.density(self.slopes(u), self.coefficient(m))
        return self.weights @ density - (self.load(m) * u).sum(dim=1)

    def linearise(self, u: Tensor | None, m: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the action of the symmetric Jacobian J(u; m), (batch, DoFs) → (batch, DoFs).

        Args:
            u: (batch, DoFs); None, for a linear kernel, saves some work.
            m: (batch, DoFs of all inputs).
        """
        H, a = self._state(u, m)
        tangent = self.tangent(H, a * self.weights[:, None])
        return lambda v: self._gathered(tangent(self.slopes(v)))

    def jacobian(self, u: Tensor | None, m: Tensor, v: Tensor) -> Tensor:
        """Return J(u; m) v, (batch, DoFs)."""
        return self.linearise(u, m)(v)

    def diagonal(self, u: Tensor | None, m: Tensor) -> Tensor:
        """Return the diagonal of J(u; m), (batch, DoFs)."""
        if not hasattr(self, "_products"):
            self._products = SparseMap(self._gradient_products(), self.dtype).to(self.weights.device)
        moduli = self.diagonal_moduli(*self._state(u, m)) * self.weights[:, None, None]
        d, n, c, batch = self.gdim, len(self.weights), self.components, len(m)
        pairs = [moduli[i, j] * (1 if i == j else 2) for i in range(d) for j in range(i, d)]
        summed: Tensor = self._products(torch.stack(pairs).reshape(len(pairs) * n, c, batch))
        return summed.reshape(-1, batch).T

    def slopes(self, u: Tensor) -> Tensor:
        """Return the gradients at the quadrature points, (gdim, points, components, batch)."""
        batch = len(u)
        nodal = u.T.reshape(-1, self.components * batch)
        out: Tensor = self.gradient(nodal).reshape(self.gdim, -1, self.components, batch)
        return out

    def cell_mean(self, values: Tensor) -> Tensor:
        """Return means over the cells, (…, cells, batch), of values at the points (…, points, batch)."""
        shape = (*values.shape[:-2], self.cells, -1, values.shape[-1])
        w = self.weights.reshape(self.cells, -1, 1)
        return (values.reshape(shape) * w).sum(dim=-2) / w.sum(dim=1)

    def extra_repr(self) -> str:
        """Describe the kernel when a module is printed."""
        return f"{self.discretisation.output.element}, {len(self.weights)} quadrature points, {self.dtype}"

    # ---------------------------------------------------------------------- inside

    def _state(self, u: Tensor | None, m: Tensor) -> tuple[Any, Tensor]:
        if u is None and not self.linear:
            raise SponError(f"the tangent of the {self.physics.kernel} kernel depends on u; none was given")
        return None if u is None else self.slopes(u), self.coefficient(m)

    def _gathered(self, weighted: Tensor) -> Tensor:
        """Return Gᵀ of w ⊙ P, (batch, DoFs)."""
        batch = weighted.shape[-1]
        columns = weighted.reshape(-1, self.components * batch)
        out: Tensor = self.gradient.transposed(columns).reshape(-1, batch)
        return out.T

    def _gradient_products(self) -> sp.csr_array:
        """Return (nodes, pairs · points): ∂φ/∂x_i ∂φ/∂x_j for i ≤ j."""
        g = self.gradient
        parts = (g.data.cpu().double().numpy(), g.indices.cpu().numpy(), g.indptr.cpu().numpy())
        whole, n = sp.csr_array(parts, shape=g.shape), len(self.weights)
        rows = [whole[d * n : (d + 1) * n] for d in range(self.gdim)]
        found = [rows[i].multiply(rows[j]) for i in range(self.gdim) for j in range(i, self.gdim)]
        return sp.csr_array(sp.vstack(found).T)

    def check(self, u: Tensor, m: Tensor) -> None:
        """Refuse shapes and types that do not fit.

        Raises:
            SponError: with the shape found.
        """
        for what, values, width in (("u", u, self.discretisation.dofs), ("m", m, self.inputs)):
            if values.ndim != 2 or values.shape[1] != width or values.dtype != self.dtype:
                raise SponError(
                    f"{what} of shape {tuple(values.shape)}, {values.dtype}; allowed: (batch, {width}), "
                    f"{self.dtype}"
                )
        if len(u) != len(m):
            raise SponError(f"{len(u)} samples of u and {len(m)} of m; allowed: as many")


def _first_of(d: Discretisation, name: str) -> int:
    """Return the position of an input in the vector of all."""
    names = list(d.inputs)
    if name not in names:
        raise SponError(f"coefficient '{name}'; allowed: {', '.join(names)}")
    return sum(d.inputs[other].dofs for other in names[: names.index(name)])


def _values(physics: Physics, d: Discretisation, points: int) -> sp.csr_array:
    """Return the map from the DoFs of the coefficient to its values, (points, DoFs)."""
    cells, table = physics.coefficient_cells, physics.coefficient_values
    if cells is None or table is None:
        raise SponError(f"the physics say nothing of the basis functions of '{physics.coefficient}'")
    q, n = table.shape
    columns = np.repeat(cells, q, axis=0).ravel()
    data = np.tile(table.ravel(), len(cells))
    shape = (points, d.inputs[str(physics.coefficient)].dofs)
    return sp.csr_array((data, columns, np.arange(0, len(columns) + 1, n)), shape=shape)
