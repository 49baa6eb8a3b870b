"""Generations on one rank, interrupted ones too."""

import numpy as np
import pytest
from conftest import Diffusion
from mpi4py import MPI

import spon
from spon.data.fields import generator
from spon.data.generation import Generation, generate_file
from spon.data.parts import Parts

WORLD, SELF = MPI.COMM_WORLD, MPI.COMM_SELF


class Fragile(Diffusion):
    """Samples 2 and 5 of seed 1 cannot be solved."""

    def sample(self, rng):
        m = super().sample(rng)
        bad = [Diffusion.sample(self, generator(1, k)) for k in (2, 5)]
        return 0 * m if any(np.array_equal(m, b) for b in bad) else m


def alone(problem, output, samples, **more):
    """Generate on one rank; what was said, and the data set."""
    said = []
    generate_file(problem, output, Generation(samples, seed=1, **more), SELF, said.append)
    return said, spon.Dataset.load(output)


def interrupted(problem, output, samples, after, monkeypatch, **more):
    """Generate on one rank, and stop after some shards."""
    left = [after]
    write = Parts.write

    def limited(parts, block):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(parts, block)

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "write", limited)
        with pytest.raises(KeyboardInterrupt):
            alone(problem, output, samples, shard_size=2, **more)


def gathered(numbers):
    return sorted(number for part in WORLD.allgather(numbers) for number in part)


def same(data, reference):
    np.testing.assert_array_equal(data.numbers, reference.numbers)
    np.testing.assert_allclose(data.inputs, reference.inputs, rtol=1e-10)
    np.testing.assert_allclose(data.outputs, reference.outputs, atol=1e-10)
    assert data.discretisation.fingerprint == reference.discretisation.fingerprint
