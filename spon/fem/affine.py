"""Matrices that are affine in the values of an input: a fixed sparse map instead of assembly."""

from __future__ import annotations

from typing import Any

import basix.ufl
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import ufl
from dolfinx import fem
from dolfinx.fem import petsc

from spon.fem.reduced import ReducedSystem

__all__ = ["AffineReduction"]

Floats = npt.NDArray[np.float64]
_ENTRIES = 20_000_000  # of element matrices and their derivatives: about 1 GB while the map is made
_EXACT = 1e-12  # of the largest entry


class AffineReduction:
    """ZᵀA(m)Z = C₀ + Σ mⱼ Cⱼ and ZᵀA(m) u_g likewise, for m in a Lagrange or piecewise constant space.

    The Cⱼ come from element matrices: in spaces without continuity A has a block for each cell, so that one
    assembly gives the derivative by a local DoF of m on all cells. Values that an assembled matrix confirms
    to 1e-12; on one rank.

    Args:
        system: loaded with an A(m) once; it takes the values from here on.
        form: a(m; u, v), with trial and test function of the system's space.
        function: m, a function; its values are not changed.

    Use `make`, which says where this is possible.
    """

    def __init__(self, system: ReducedSystem, form: Any, function: fem.Function) -> None:
        V, M = system.order.space, function.function_space
        broken_V, broken_M = _broken(V), _broken(M)
        m = fem.Function(broken_M)
        u, v = form.arguments()[1], form.arguments()[0]
        trial, test = ufl.TrialFunction(broken_V), ufl.TestFunction(broken_V)
        a = fem.form(ufl.replace(form, {function: m, u: trial, v: test}))
        cells = _cell_dofs(broken_M)
        matrix = petsc.create_matrix(a)

        def elements() -> sp.csr_array:
            matrix.zeroEntries()
            petsc.assemble_matrix(matrix, a)
            matrix.assemble()
            indptr, indices, data = matrix.getValuesCSR()
            return sp.csr_array((data, indices, indptr), shape=matrix.getSize())

        Z, shift, pattern = _live(system)
        glue = _glue(broken_V, V)  # broken DoFs of u from those of V
        reduce = _Reduction(elements(), sp.csr_array(glue @ Z), glue @ shift, pattern)
        base = elements()
        self._base = reduce(base.data)
        maps = []
        for local in range(cells.shape[1]):
            m.x.array[:] = 0.0
            m.x.array[cells[:, local]] = 1.0
            owner = np.zeros(base.shape[0], dtype=np.int64)  # DoF of m that scales the rows of a cell
            owner[_cell_dofs(broken_V)] = _cell_dofs(M)[:, local, None]
            maps.append(reduce.by_owner(elements().data - base.data, owner, len(function.x.array)))
        matrix.destroy()
        self._maps = [sp.csr_array(sum(parts[1:], parts[0])) for parts in zip(*maps, strict=True)]
        self._function, self._system = function, system
        self._Z = Z

    @classmethod
    def make(cls, system: ReducedSystem, form: Any, function: Any, matrix: Any) -> AffineReduction | None:
        """Return the map, or None where there is none, or it would take much memory.

        Args:
            system: of the solver.
            form: a(m; u, v), whose only input is m.
            function: m.
            matrix: of the form, assembled at the present m, whose values are random.
        """
        spaces = (system.order.space, getattr(function, "function_space", None))
        kinds = {integral.integral_type() for integral in form.integrals()}
        if system.comm.size > 1 or system.singular or not kinds <= {"cell", "exterior_facet"}:
            return None
        if not all(space is not None and _plain(space) for space in spaces):
            return None
        blocks = [_cell_dofs(space).shape for space in spaces]
        if blocks[0][0] * blocks[0][1] ** 2 * blocks[1][1] > _ENTRIES:
            return None
        out = cls(system, form, function)
        data, load = out.values()
        exact = system.matrix.getValuesCSR()[2]
        carried = matrix.createVecRight()
        matrix.mult(system.live_shift, carried)
        expected = out._Z.T @ carried.array_r
        carried.destroy()
        good = np.abs(data - exact).max() <= _EXACT * np.abs(exact).max()
        good &= bool(
            np.abs(load - expected).max() <= _EXACT * max(np.abs(exact).max(), np.abs(expected).max())
        )
        return out if good else None

    def values(self) -> tuple[Floats, Floats]:
        """Return the values of ZᵀAZ, in the order of its CSR arrays, and ZᵀA u_g, (free DoFs,)."""
        m = self._function.x.array
        data, load = (base + T @ m for base, T in zip(self._base, self._maps, strict=True))
        return data, load

    def load(self, rhs: Any) -> None:
        """Fill the system for the values that m has now.

        Args:
            rhs: b, assembled, without boundary conditions.
        """
        data, load = self.values()
        self._system.fill(data, self._Z.T @ rhs.array_r - load)


class _Reduction:
    """ZᵀAZ in a given pattern and ZᵀA g, as a linear map of the entries of element matrices.

    Args:
        A: element matrices, with the pattern that all have.
        Z: (rows of A, free DoFs).
        g: (rows of A,).
        pattern: of the result, CSR.
    """

    def __init__(self, A: sp.csr_array, Z: sp.csr_array, g: Floats, pattern: sp.csr_array) -> None:
        row, column = A.tocoo().coords
        number = np.arange(A.nnz)
        # A triple for each entry of A and each pair of free DoFs of its row and its column
        left = sp.csr_array((np.ones(A.nnz), (number, row)), shape=(A.nnz, A.shape[0])) @ Z
        right = sp.csr_array((np.ones(A.nnz), (number, column)), shape=(A.nnz, A.shape[0])) @ Z
        lefts, rights = np.diff(left.indptr), np.diff(right.indptr)
        pairs = lefts * rights
        entry = np.repeat(number, pairs)
        within = np.arange(len(entry)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
        i = left.indptr[entry] + within // np.maximum(rights[entry], 1)
        j = right.indptr[entry] + within % np.maximum(rights[entry], 1)
        free = pattern.shape[0]
        keys = np.repeat(np.arange(free), np.diff(pattern.indptr)) * free + pattern.indices
        place = np.searchsorted(keys, left.indices[i].astype(np.int64) * free + right.indices[j])
        self._matrix = place, entry, left.data[i] * right.data[j]
        entry = np.repeat(number, lefts)
        self._load = left.indices, entry, left.data * g[column[entry]]
        self._sizes, self._row = (len(keys), free), row

    def __call__(self, entries: Floats) -> tuple[Floats, Floats]:
        """Return the values of ZᵀAZ, and ZᵀA g, for the entries of A."""
        (place, entry, weight), (row, of, share) = self._matrix, self._load
        data: Floats = np.bincount(place, weight * entries[entry], self._sizes[0]).astype(np.float64)
        load: Floats = np.bincount(row, share * entries[of], self._sizes[1]).astype(np.float64)
        return data, load

    def by_owner(self, entries: Floats, owner: npt.NDArray[np.int64], owners: int) -> list[sp.csr_array]:
        """Return the same as maps of the numbers that the rows of A are scaled with, by owner of the row."""
        return [
            sp.csr_array((weight * entries[entry], (place, owner[self._row[entry]])), shape=(size, owners))
            for (place, entry, weight), size in zip((self._matrix, self._load), self._sizes, strict=True)
        ]


def _plain(space: Any) -> bool:
    """Whether DoFs of cells go into the same places of a space without continuity."""
    element = space.ufl_element()
    return (
        getattr(element, "family_name", None) == "P"
        and len(element.reference_value_shape) <= 1
        and (element.degree <= 2 or element.discontinuous)
    )


def _broken(space: Any) -> Any:
    element = space.ufl_element()
    scalar = element.sub_elements[0] if space.dofmap.bs > 1 else element
    free = basix.ufl.element(
        "P", scalar.cell_type, scalar.degree, scalar.lagrange_variant, discontinuous=True
    )
    if space.dofmap.bs > 1:
        free = basix.ufl.blocked_element(free, shape=element.reference_value_shape)
    return fem.functionspace(space.mesh, free)


def _cell_dofs(space: Any) -> npt.NDArray[np.int64]:
    """DoFs of each cell, those of one point adjacent: (cells, DoFs of a cell)."""
    dofs, block = np.asarray(space.dofmap.list, dtype=np.int64), space.dofmap.bs
    return (dofs[:, :, None] * block + np.arange(block)).reshape(len(dofs), -1)


def _glue(broken: Any, space: Any) -> sp.csr_array:
    rows, columns = _cell_dofs(broken).ravel(), _cell_dofs(space).ravel()
    sizes = [s.dofmap.index_map.size_local * s.dofmap.bs for s in (broken, space)]
    return sp.csr_array((np.ones(len(rows)), (rows, columns)), shape=tuple(sizes))


def _live(system: ReducedSystem) -> tuple[sp.csr_array, Floats, sp.csr_array]:
    """Z, u_g and ZᵀAZ on one rank, in DOLFINx's order."""
    matrices = []
    for matrix in (system.Z, system.matrix):
        indptr, indices, data = matrix.getValuesCSR()
        matrices.append(sp.csr_array((data, indices, indptr), shape=matrix.getSize()))
    return matrices[0], np.array(system.live_shift.array_r), matrices[1]
