"""Fixtures, and good manners under mpirun: rank 0 speaks, a failure anywhere ends all ranks."""

import faulthandler
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from mpi4py import MPI

import spon
from spon.fem.arrays import MeshArrays
from spon.fem.mesh import TaggedMesh

settings.register_profile("spon", deadline=None, max_examples=15, derandomize=True)
settings.load_profile("spon")

MESHES = Path(__file__).parent.parent / "meshes"


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="all cell types and elements; minutes")


@pytest.hookimpl(trylast=True)  # after the reporter is there
def pytest_configure(config):
    with config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        config.real_stderr = os.fdopen(os.dup(2), "w")  # pytest captures descriptor 2 during tests
    if MPI.COMM_WORLD.rank > 0:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        reporter._tw._file = Path(os.devnull).open("w")  # noqa: SIM115, for the life of the process


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """End a rank that waits for another for ever, with a traceback that shows where."""
    if MPI.COMM_WORLD.size > 1:
        faulthandler.dump_traceback_later(120, exit=True, file=item.config.real_stderr)
    yield
    faulthandler.cancel_dump_traceback_later()


def pytest_runtest_logreport(report):
    world = MPI.COMM_WORLD
    if world.size > 1 and report.failed:
        sys.stderr.write(f"\nrank {world.rank} of {world.size}: {report.nodeid}\n{report.longreprtext}\n")
        sys.stderr.flush()
        time.sleep(1.0)  # let the other ranks tell theirs
        world.Abort(1)


def square(n: int) -> MeshArrays:
    """Unit square of 2 n² triangles with boundaries left, right, bottom, top."""
    x, y = np.meshgrid(np.linspace(0, 1, n + 1), np.linspace(0, 1, n + 1))
    number = np.arange((n + 1) ** 2).reshape(n + 1, n + 1)
    a, b, c, d = (q.ravel() for q in (number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]))
    cells = np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)])
    sides = {"left": number[:, 0], "right": number[:, -1], "bottom": number[0], "top": number[-1]}
    facets = [np.stack([s[:-1], s[1:]], 1) for s in sides.values()]
    return MeshArrays(
        points=np.stack([x.ravel(), y.ravel()], 1),
        cells=cells,
        cell_type="triangle",
        cell_tags=np.ones(len(cells), np.int32),
        facets=np.concatenate(facets),
        facet_tags=np.repeat(np.arange(1, 5, dtype=np.int32), n),
        cell_names={"domain": 1},
        facet_names={name: k + 1 for k, name in enumerate(sides)},
        source="square",
    )


def on_square(n: int, refinements: int, comm=MPI.COMM_SELF) -> spon.Hierarchy:
    return spon.Hierarchy.uniform(TaggedMesh(square(n), comm), refinements)


class Diffusion(spon.load_problem(spon.find_problem("plate.py")).Plate):
    """The plate's equations on the unit square: u = x on the left and the right, flux at the top."""

    def __init__(self, hierarchy):
        super().__init__(hierarchy, {"left": 0.0, "right": lambda x: 1.0 + 0 * x[0]}, {"top": 0.5})


@pytest.fixture(scope="session")
def problem():
    """A small problem with three levels, a copy on each rank."""
    return Diffusion(on_square(3, 2))


@pytest.fixture(scope="session")
def dataset(problem):
    return spon.generate(problem, 24, seed=1)


@pytest.fixture
def shared_folder(tmp_path):
    """A temporary folder that all ranks see."""
    return MPI.COMM_WORLD.bcast(tmp_path, root=0)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture(scope="module")
def cell():
    """A small cell of two materials."""
    from rves import chequered

    return chequered()


@pytest.fixture(scope="module")
def solved(cell):
    """Its equilibrium at a few strains."""
    from rves import strains

    E = strains(3, 3)
    return E, cell.solve(E)
