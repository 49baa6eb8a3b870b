"""A periodic cell of bilinear rectangles in plain arrays, with a Newton solver as plain as can be."""

from types import SimpleNamespace

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch

import spon

GAUSS = 0.5 / np.sqrt(3)
CORNERS = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
MATRIX = spon.Deviatoric(K=4780.0, alpha1=50.0, alpha2=0.06)
INCLUSION = spon.LinearElastic(K=43452.381, G=29918.0328)


class GridCell:
    """A cell [−½, ½]² of count × count rectangles, in plane strain; an off-centre disc is the inclusion."""

    def __init__(self, count=6, matrix=MATRIX, inclusion=INCLUSION, radius=0.3):
        m, even = count + 1, np.arange(count + 1) / count
        grid = even - 0.5 + 0.1 * np.sin(2 * np.pi * even)  # graded, so that weights differ
        corners = [[0, 0], [1, 0], [1, 1], [0, 1]]
        rows, columns, values, points, weights = [], [], [], [], []
        for j in range(count):
            for i in range(count):
                start, h = grid[[i, j]], np.diff(grid)[[i, j]]
                nodes = np.array([(j + b) * m + i + a for a, b in corners])
                for point in 2 * GAUSS * CORNERS:
                    slopes = 2 * CORNERS * (0.5 + 2 * (CORNERS * point)[:, ::-1]) / h
                    row = 3 * len(points)
                    for node, (dx, dy) in zip(nodes, slopes, strict=True):
                        rows += [row, row + 2, row + 1, row + 2]
                        columns += [2 * node, 2 * node, 2 * node + 1, 2 * node + 1]
                        values += [dx, dy, dy, dx]
                    points.append(start + (0.5 + point) * h)
                    weights.append(h.prod() / 4)
        self.points, self.weights = np.array(points), np.array(weights)
        self.strain_operator = sp.csr_array((values, (rows, columns)), shape=(3 * len(points), 2 * m * m))
        self.phases = (np.hypot(*(self.points - [0.05, -0.1]).T) < radius).astype(np.int64)
        self.names, self.materials = ("matrix", "inclusion"), (matrix, inclusion)
        masters = np.array([(j % count) * count + i % count for j in range(m) for i in range(m)])
        tied = sp.csr_array((np.ones(m * m), (np.arange(m * m), masters)), shape=(m * m, count * count))
        self.Z = sp.csr_array(sp.kron(tied, sp.eye_array(2)))[:, 2:].tocsr()  # a corner is held
        self.node_coordinates = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)
        self.volume, self.strain_size = 1.0, 3

    def response(self, strains):
        """Stresses and tangents at strains (points, n)."""
        stress, tangent = torch.zeros(len(strains), 3).double(), torch.zeros(len(strains), 3, 3).double()
        for phase, material in enumerate(self.materials):
            here = self.phases == phase
            stress[here], tangent[here] = material.response(torch.as_tensor(strains[here]))
        return stress.numpy(), tangent.numpy()

    def solve(self, macro_strain, start=None):
        """Return the solution of each load case, as the finite-element cell does."""
        BZ = sp.csr_array(self.strain_operator @ self.Z)
        W = np.repeat(self.weights, 3)
        out = []
        for macro in macro_strain.numpy():
            free = np.zeros(BZ.shape[1])
            for _ in range(30):
                stress, tangent = self.response(macro + (BZ @ free).reshape(-1, 3))
                C = sp.block_diag(list(tangent * self.weights[:, None, None]), format="csr")
                force = BZ.T @ (W * stress.reshape(-1))
                factor = spla.splu(sp.csc_array(BZ.T @ C @ BZ))
                step = factor.solve(force)
                free -= step
                if np.abs(step).max() < 1e-15:
                    break
            ones = np.tile(np.eye(3), (len(self.weights), 1))
            coupling = BZ.T @ (C @ ones)
            condensed = ones.T @ (C @ ones) - coupling.T @ factor.solve(coupling)
            out.append((self.weights @ stress, condensed, self.Z @ free, np.abs(force).max()))
        names = ("stress", "tangent", "fluctuation", "residual")
        columns = zip(*out, strict=True)
        tensors = [torch.as_tensor(np.array(column)) for column in columns]
        return SimpleNamespace(**dict(zip(names, tensors, strict=True)))

    def sensitivities(self, macro_strain, fluctuation):
        """Return (batch, dofs, 3)."""
        BZ = sp.csr_array(self.strain_operator @ self.Z)
        out = []
        for strains in self.strains(macro_strain, fluctuation).numpy():
            C = sp.block_diag(list(self.response(strains)[1] * self.weights[:, None, None]), format="csr")
            coupling = BZ.T @ (C @ np.tile(np.eye(3), (len(self.weights), 1)))
            out.append(self.Z @ -spla.splu(sp.csc_array(BZ.T @ C @ BZ)).solve(coupling))
        return torch.as_tensor(np.array(out))

    def strains(self, macro, fluctuation):
        """Return (batch, points, n)."""
        local = (self.strain_operator @ fluctuation.numpy().T).T.reshape(len(macro), -1, 3)
        return macro[:, None] + torch.as_tensor(local)

    def stresses(self, strains):
        """Return (batch, points, n)."""
        return torch.stack([torch.as_tensor(self.response(case.numpy())[0]) for case in strains])
