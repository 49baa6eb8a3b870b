"""Residuals of problem files as differentiable torch operations."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import ufl
from dolfinx import fem
from dolfinx.fem import petsc
from mpi4py import MPI
from petsc4py import PETSc
from torch import Tensor
from torch.autograd.function import once_differentiable
from ufl.algorithms import expand_derivatives

from spon.errors import SponError, agree
from spon.fem.linearity import linear_form
from spon.physics.assembled.problem import Problem

__all__ = ["Residual"]

Floats = npt.NDArray[np.float64]


class Residual:
    """r_i(u, m) = F(u; m, φ_i) of a problem file, for batches, with its gradients in u and in m.

    DOLFINx assembles, in parallel over the ranks of the problem's mesh; every rank gives the same u and m
    and gets the same r. The backward pass assembles the actions of the adjoints, Σ_i λ_i ∂r_i/∂u and
    Σ_i λ_i ∂r_i/∂m, as linear forms, without a matrix. Gradients are dual vectors. Loads are at their full
    value.

    Boundary data enter by u = Z û + u_g(m): `expand` is that map, differentiable too, so that
    `residual(residual.expand(free, m), m)` has their gradient.

    Args:
        problem: any; its forms are compiled here, once.

    Raises:
        SponError: a residual that is not linear in v, or a constraint on another space.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem, self.order = problem, problem.order
        if problem.constraint.Z.shape[0] != self.order.size:
            raise SponError(
                f"a constraint on {problem.constraint.Z.shape[0]} DoFs; the space has {self.order.size}"
            )
        space, inputs = problem.space, problem.coefficients
        self._u, self._adjoint = fem.Function(space), fem.Function(space)
        v = ufl.TestFunction(space)
        F = linear_form(problem.residual(self._u, inputs.ufl, v))
        self._form = fem.form(F)
        functional = ufl.replace(F, {v: self._adjoint})
        self._in_u = _compiled(ufl.derivative(functional, self._u, v))
        self._in_m: dict[str, Any] = {}
        for name, live in inputs.variables.items():
            if isinstance(live, list):
                self._in_m[name] = [_compiled(ufl.diff(functional, one)) for one in live]
            else:
                test = ufl.TestFunction(live.function_space)
                self._in_m[name] = _compiled(ufl.derivative(functional, live, test))

    def __call__(self, u: Tensor, m: Tensor) -> Tensor:
        """Return r, the dual vectors F(u; m, φ_i). Collective, and so is the backward pass.

        Args:
            u: (batch, DoFs) float64 in canonical order.
            m: (batch, DoFs of all inputs) float64.

        Returns:
            (batch, DoFs) float64, on the device of u. `reduce` leaves what acts on admissible functions.

        Raises:
            SponError: on all ranks: another shape or dtype; u, m or r not finite.
        """
        out: Tensor = _Assembly.apply(u, m, self)
        return out

    def reduce(self, r: Tensor) -> Tensor:
        """Return Zᵀ r, (batch, free DoFs), of dual vectors (batch, DoFs)."""
        out: Tensor = _Linear.apply(r, self.problem.constraint.Z.T)
        return out

    def expand(self, free: Tensor, m: Tensor) -> Tensor:
        """Return the admissible u = Z û + u_g(m), (batch, DoFs), with gradients in û and m.

        Args:
            free: (batch, free DoFs) float64.
            m: (batch, DoFs of all inputs) float64.
        """
        lifted: Tensor = _Linear.apply(free, self.problem.constraint.Z)
        shift: Tensor = _Shift.apply(m, self.problem)
        return lifted + shift

    def assemble(self, u: Floats, m: Floats) -> Floats:
        """Return r of one sample, (DoFs,), from u (DoFs,) and m (DoFs of all inputs,). Collective."""
        self._set(u, m)
        return self.order.gather_dual(_assembled(self._form))

    def adjoint(self, u: Floats, m: Floats, dual: Floats, which: tuple[bool, bool]) -> list[Floats | None]:
        """Return Σ_i λ_i ∂r_i/∂u and Σ_i λ_i ∂r_i/∂m of one sample. Collective.

        Args:
            u: (DoFs,).
            m: (DoFs of all inputs,).
            dual: (DoFs,) λ.
            which: whether each is wanted.

        Returns:
            (DoFs,) and (DoFs of all inputs,); None for what is not wanted.
        """
        self._set(u, m)
        self.order.scatter(dual, self._adjoint)
        in_u: Floats | None = None
        in_m: Floats | None = None
        if which[0]:
            in_u = np.zeros(self.order.size)
            if self._in_u is not None:
                in_u = self.order.gather_dual(_assembled(self._in_u))
        if which[1]:
            in_m = np.concatenate([self._input_gradient(name) for name in self._in_m])
        return [in_u, in_m]

    def _input_gradient(self, name: str) -> Floats:
        form, inputs, comm = self._in_m[name], self.problem.coefficients, self.order.mesh.comm
        if isinstance(form, list):
            mine = [0.0 if one is None else fem.assemble_scalar(one) for one in form]
            return np.array(comm.allreduce(np.array(mine), MPI.SUM))
        if form is None:
            return np.zeros(inputs.sizes[name])
        return inputs.gather_dual(name, _assembled(form))

    def _set(self, u: Floats, m: Floats) -> None:
        self.problem.coefficients.set(m)
        if self.problem.load is not None:
            self.problem.load.value = 1.0
        self.order.scatter(u, self._u)

    def check(self, u: Tensor, m: Tensor) -> None:
        """Check a batch. Collective.

        Raises:
            SponError: on all ranks: another shape or dtype; values that are not finite.
        """
        with agree(self.order.mesh.comm):
            for name, values, size in (("u", u, self.order.size), ("m", m, self.problem.coefficients.size)):
                if values.ndim != 2 or values.shape[1] != size or values.dtype != torch.float64:
                    raise SponError(
                        f"{name} of shape {tuple(values.shape)} in {values.dtype}; allowed: (batch, {size}) "
                        "in torch.float64"
                    )
                bad = (~values.isfinite().all(dim=1)).nonzero()
                if len(bad):
                    raise SponError(f"{name} of sample {int(bad[0])} of the batch is not finite")
            if len(u) != len(m):
                raise SponError(f"{len(u)} samples of u and {len(m)} of m; allowed: as many")


def _compiled(form: Any) -> Any:
    """Compile a derivative; None where it is zero."""
    form = expand_derivatives(form)
    return fem.form(form) if form.integrals() else None


def _assembled(form: Any) -> Floats:
    """Assemble a compiled linear form: (owned DoFs,) accumulated over the ranks."""
    vector = petsc.assemble_vector(form)
    vector.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
    values = np.array(vector.array_r)
    vector.destroy()
    return values


class _Assembly(torch.autograd.Function):
    """Assemble in the forward pass, and the adjoints in the backward pass, sample by sample."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, m: Tensor, residual: Residual) -> Tensor:
        residual.check(u, m)
        ctx.save_for_backward(u, m)
        ctx.residual = residual
        pairs = zip(u.detach().cpu().numpy(), m.detach().cpu().numpy(), strict=True)
        out = torch.as_tensor(np.array([residual.assemble(*pair) for pair in pairs]).reshape(u.shape))
        bad = (~out.isfinite().all(dim=1)).nonzero()
        if len(bad):
            raise SponError(f"the residual of sample {int(bad[0])} of the batch is not finite")
        return out.to(u.device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dual: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        u, m = ctx.saved_tensors
        which = ctx.needs_input_grad[:2]
        arrays = [one.detach().cpu().numpy() for one in (u, m, dual)]
        found = [ctx.residual.adjoint(*sample, which) for sample in zip(*arrays, strict=True)]
        out: list[Tensor | None] = [None, None]
        for k, like in enumerate((u, m)):
            if which[k]:
                rows = np.array([sample[k] for sample in found]).reshape(like.shape)
                out[k] = torch.as_tensor(rows).to(like.device)
        return out[0], out[1], None


class _Linear(torch.autograd.Function):
    """Apply a scipy matrix to each sample."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Any) -> Tensor:
        if x.ndim != 2 or x.shape[1] != matrix.shape[1] or x.dtype != torch.float64:
            raise SponError(
                f"values of shape {tuple(x.shape)} in {x.dtype}; allowed: (batch, {matrix.shape[1]}) in "
                "torch.float64"
            )
        ctx.matrix = matrix
        return torch.as_tensor((matrix @ x.detach().cpu().numpy().T).T).to(x.device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dual: Tensor) -> tuple[Tensor, None]:
        return torch.as_tensor((ctx.matrix.T @ dual.cpu().numpy().T).T).to(dual.device), None


class _Shift(torch.autograd.Function):
    """u_g of inputs: affine in the boundary data among them."""

    @staticmethod
    def forward(ctx: Any, m: Tensor, problem: Problem) -> Tensor:
        size = problem.coefficients.size
        if m.ndim != 2 or m.shape[1] != size or m.dtype != torch.float64:
            raise SponError(
                f"m of shape {tuple(m.shape)} in {m.dtype}; allowed: (batch, {size}) in torch.float64"
            )
        ctx.problem = problem
        shifts = [problem.shift(sample) for sample in m.detach().cpu().numpy()]
        fixed = problem.constraint.shift
        rows = np.array([fixed if shift is None else shift for shift in shifts])
        return torch.as_tensor(rows.reshape(len(m), len(fixed))).to(m.device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dual: Tensor) -> tuple[Tensor, None]:
        problem, array = ctx.problem, dual.cpu().numpy()
        sizes, boundaries = problem.coefficients.sizes, problem.boundary_data
        parts = {name: np.zeros((len(array), size)) for name, size in sizes.items()}
        if boundaries:
            found = problem.discretisation.boundary_data_adjoint(array, list(boundaries.values()))
            parts |= {name: found[boundary] for name, boundary in boundaries.items()}
        return torch.as_tensor(np.concatenate(list(parts.values()), axis=1)).to(dual.device), None
