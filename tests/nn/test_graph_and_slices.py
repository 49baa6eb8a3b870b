"""Message passing and slice attention: what they see of the mesh."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import Diffusion, on_square, square
from mpi4py import MPI
from test_processors import build, randomise

import spon
from meshes import box
from spon.fem.mesh import TaggedMesh
from spon.nn.processors.base import Encoded

SELF = MPI.COMM_SELF


def field(processor, d, corners):
    """What a processor makes of one smooth input, at nodes."""
    points = d.levels[0].points
    values = np.exp(np.sin(3 * points[:, 0]) * points[:, 1])
    features = torch.as_tensor(np.column_stack([values, points, np.ones(len(points))]))[:, None]
    none = features.new_zeros(1, 0)
    at = [int(np.abs(points - corner).sum(axis=1).argmin()) for corner in corners]
    with torch.no_grad():
        return processor(Encoded(features, None, none, none))[at, 0, 0].numpy()


def test_attention_is_the_formula(problem):
    """Against sums over nodes, slices and tokens as they are written in the paper."""
    attention = randomise(build(problem.discretisation, "SliceAttention")).processor.blocks[0].attention
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 7, 8, dtype=torch.float64, generator=generator)
    mass = torch.rand(7, dtype=torch.float64, generator=generator) + 0.1
    parts = []
    with torch.no_grad():
        for head in range(2):
            slices, channels = slice(3 * head, 3 * head + 3), slice(4 * head, 4 * head + 4)
            tau = attention.temperature[head].exp()
            w = torch.softmax(
                (x[0] @ attention.slice.weight[slices].T + attention.slice.bias[slices]) / tau, 1
            )
            v = x[0] @ attention.value.weight[channels].T + attention.value.bias[channels]
            tokens = torch.stack([(mass * w[:, j]) @ v / (mass * w[:, j]).sum() for j in range(3)])
            query, key, value = (tokens @ attention.mix.weight.T).chunk(3, dim=1)
            parts.append(w @ torch.softmax(query @ key.T / 2, 1) @ value)
        expected = attention.out(torch.cat(parts, dim=1))
        torch.testing.assert_close(attention(x, mass)[0], expected)


def test_slice_attention_converges_with_the_mesh():
    """Sums are quadratures: the same function gives the same field on finer meshes, at least to O(h)."""
    meshes = [Diffusion(on_square(n, 0)).discretisation for n in (4, 8, 16, 64)]
    first = randomise(build(meshes[0], "SliceAttention")).processor
    values = [field(first.on(d), d, [[0, 0], [0.25, 0.5], [0.75, 0.25]]) for d in meshes]
    errors = [np.abs(v - values[-1]).max() for v in values[:-1]]
    assert np.abs(values[-1]).max() > 0.1
    assert 1e-6 < errors[0] < 0.1
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] < 0.6 * errors[1]


def test_slice_attention_does_not_follow_the_density_of_nodes():
    """A mesh with most of its nodes on one side gives what a uniform one does."""
    arrays = square(24)
    graded = replace(arrays, points=np.column_stack([arrays.points[:, 0] ** 3, arrays.points[:, 1]]))
    meshes = [
        Diffusion(spon.Hierarchy.uniform(TaggedMesh(mesh, SELF), 0)).discretisation
        for mesh in (arrays, graded)
    ]
    first = randomise(build(meshes[0], "SliceAttention")).processor
    one, two = (field(first.on(d), d, [[0, 0], [1, 1]]) for d in meshes)
    assert np.abs(one).max() > 0.1
    np.testing.assert_allclose(two, one, atol=0.01 * np.abs(one).max())


@pytest.mark.parametrize("cell", ["triangle", "quadrilateral", "tetrahedron", "hexahedron"])
@pytest.mark.parametrize("degree", [1, 2])
def test_graph_joins_the_nodes_of_a_cell_both_ways(cell, degree):
    mesh = TaggedMesh(box(cell, 2), SELF)
    d = spon.discretise(spon.Hierarchy.uniform(mesh, 0), spon.lagrange(mesh, degree))
    graph, level = build(d, "Graph").processor, d.levels[0]
    n = len(level.points)
    number = torch.arange(n, dtype=torch.float64)
    nothing = torch.zeros(n, dtype=torch.float64)
    sender, receiver = (
        graph.gather(torch.cat(pair)).long().numpy() for pair in ((number, nothing), (nothing, number))
    )
    pairs = {(a, b) for nodes in level.cells.tolist() for a in nodes for b in nodes if a != b}
    ends = list(zip(sender.tolist(), receiver.tolist(), strict=True))
    assert set(ends) == pairs
    assert len(ends) == len(pairs)
    gap = level.points[sender] - level.points[receiver]
    h = level.lumped_mass[receiver, None] ** (1 / level.gdim)
    offsets = graph.offsets.numpy()
    np.testing.assert_allclose(offsets[:, :-1] * h, gap, atol=1e-12)
    np.testing.assert_allclose(offsets[:, -1:] * h, np.linalg.norm(gap, axis=1)[:, None])
    # the mean over arriving edges of what the receiver knows is what it knows
    torch.testing.assert_close(graph.mean(torch.as_tensor(receiver).double()), number)


def test_graph_features_do_not_depend_on_the_size_of_the_mesh():
    arrays = square(4)
    small = replace(arrays, points=1e-3 * arrays.points)
    one, two = (
        spon.Graph(Diffusion(spon.Hierarchy.uniform(TaggedMesh(mesh, SELF), 0)).discretisation)
        for mesh in (arrays, small)
    )
    torch.testing.assert_close(one.offsets, two.offsets)


@pytest.mark.parametrize("steps", [1, 2])
def test_graph_sees_as_far_as_its_steps(problem, steps):
    """A change at one node reaches all nodes that are at most `steps` edges away, and no other."""
    d = problem.discretisation
    processor = randomise(build(d, "Graph", steps=steps)).processor
    node = int(np.abs(d.levels[0].points - 0.5).sum(axis=1).argmin())
    reached = {node}
    for _ in range(steps):
        reached |= {n for cell in d.levels[0].cells.tolist() if reached & set(cell) for n in cell}
    features = torch.rand(d.dofs, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    changed = features.clone()
    changed[node] += 1.0
    none = features.new_zeros(1, 0)
    with torch.no_grad():
        one, two = (processor(Encoded(f, None, none, none)) for f in (features, changed))
    assert len(reached) < d.dofs
    assert set(np.flatnonzero((one != two).numpy().ravel()).tolist()) == reached
