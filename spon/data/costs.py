"""What groups of ranks, and earlier runs, have found out about the costs of solvers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from spon.fem.tuned import TunedSolver
from spon.files import replacing

__all__ = ["COSTS", "SharedCosts"]

COSTS = "costs-*.json"


class SharedCosts:
    """Costs of the arms of a `TunedSolver`, in a small file for each group in a folder that all groups see.

    Nobody waits: a group writes when it has tried an arm, and reads what is there while arms are left that
    it has not tried. Costs of other versions of PETSc, other numbers of unknowns or of ranks in a group are
    left alone.

    Args:
        folder: of the files.
        solver: of the group; any other than a `TunedSolver` has no costs to share.
        group: the ranks of the group.
        index: of the group.
        groups: number of groups.
    """

    def __init__(self, folder: Path, solver: Any, group: MPI.Comm, index: int, groups: int) -> None:
        self._folder, self._file = folder, folder / COSTS.replace("*", str(index))
        self._solver = solver if isinstance(solver, TunedSolver) else None
        self._group = group
        self._written: set[str] = set()
        if self._solver is not None:
            unknowns = self._solver.system.x.getSize()
            self._key = [list(PETSc.Sys.getVersion()), unknowns, group.size]
            self._solver.divide_trials(index, groups)

    def exchange(self) -> None:
        """Write what is new, and read what others wrote. Collective over the group.

        Raises:
            SponError: the folder is not writable, or its disk is full.
        """
        if self._solver is None:
            return
        mine = self._solver.costs
        if mine.keys() - self._written:
            self._written |= mine.keys()
            if self._group.rank == 0:
                with replacing(self._file) as temporary:
                    temporary.write_text(json.dumps({"key": self._key, "costs": mine}))
        if self._solver.untried:
            found = self._read() if self._group.rank == 0 else None
            self._solver.learn(self._group.bcast(found) or {})

    def _read(self) -> dict[str, float]:
        """Median costs by name of the arm."""
        found: dict[str, list[float]] = {}
        for path in self._folder.glob(COSTS):
            try:
                content = json.loads(path.read_text())
            except (OSError, ValueError):
                continue  # replaced this moment, or damaged: a trial more
            if isinstance(content, dict) and content.get("key") == self._key:
                for name, cost in content["costs"].items():
                    found.setdefault(name, []).append(float(cost))
        return {name: float(np.median(costs)) for name, costs in found.items()}
