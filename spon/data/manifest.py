"""What a generated data set was made from: equal manifests, equal samples."""

from __future__ import annotations

import hashlib
import inspect
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py

from spon.errors import SponError
from spon.physics.assembled.problem import Problem

__all__ = ["FORMAT", "Manifest"]

FORMAT = 1
_ATTRIBUTE = "generated"


@dataclass(frozen=True)
class Manifest:
    """All that the samples of a generation depend on, beside their numbers.

    Args:
        problem: name of the problem file.
        problem_class: name of the class in it.
        source: SHA-256 of the problem file and of those that its base classes come from.
        settings: attributes of the problem that are plain values, as text.
        fingerprint: of mesh, elements and constraint.
        nodes: on each level of the hierarchy, the finest first.
        seed: of the inputs.
        backend: that solved.
        format: of the folder of parts.
    """

    problem: str
    problem_class: str
    source: str
    settings: dict[str, str]
    fingerprint: str
    nodes: list[int]
    seed: int
    backend: str
    format: int = FORMAT

    @classmethod
    def of(cls, problem: Problem, seed: int, backend: str) -> Manifest:
        """Describe a problem.

        Raises:
            SponError: its class was not defined in a file.
        """
        kinds = [c for c in type(problem).__mro__ if issubclass(c, Problem) and c is not Problem]
        try:
            files = dict.fromkeys(Path(inspect.getfile(kind)) for kind in kinds)
        except (OSError, TypeError) as error:
            raise SponError(
                f"{type(problem).__name__} is defined in no file; allowed: a problem file"
            ) from error
        digest = hashlib.sha256()
        for file in files:
            digest.update(file.read_bytes())
        return cls(
            next(iter(files)).name,
            type(problem).__name__,
            digest.hexdigest(),
            _settings(problem),
            problem.discretisation.fingerprint,
            [len(level.points) for level in problem.discretisation.levels],
            seed,
            backend,
        )

    def to_json(self) -> str:
        """Return all entries as text."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @property
    def digest(self) -> str:
        """SHA-256 of all entries."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def difference(self, text: str | None) -> str | None:
        """Say in what another manifest differs.

        Args:
            text: `to_json` of the other one; None: there is none.

        Returns:
            None if they are equal.
        """
        if text is None:
            return "it does not say what it was generated from"
        try:
            other: dict[str, Any] = json.loads(text)
            differing = [name for name, value in asdict(self).items() if other.get(name) != value]
        except (ValueError, AttributeError):
            return "what it was generated from cannot be read"
        if not differing:
            return None
        if "source" in differing and "problem" not in differing:
            return f"the problem file {self.problem} has changed since"
        if "fingerprint" in differing and not {"problem", "problem_class"} & set(differing):
            return "another mesh, element or constraint"
        name = next(n for n in ("problem", "problem_class", *differing) if n in differing)
        return f"{name.replace('_', ' ')} {other.get(name)}, now {asdict(self)[name]}"

    def write(self, path: Path) -> None:
        """Add the manifest to an HDF5 file."""
        with h5py.File(path, "a") as file:
            file.attrs[_ATTRIBUTE] = self.to_json()

    @staticmethod
    def read(path: Path) -> str | None:
        """Return the text in an HDF5 file; None if there is none, or it is no such file."""
        try:
            with h5py.File(path, "r") as file:
                return str(file.attrs[_ATTRIBUTE]) if _ATTRIBUTE in file.attrs else None
        except OSError:
            return None


def _settings(problem: Problem) -> dict[str, str]:
    attributes = {name: value for name, value in vars(problem).items() if _plain(value)}
    attributes.pop("solver_options", None)  # these may depend on the number of ranks
    return {name: repr(attributes[name]) for name in sorted(attributes)}


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return isinstance(value, bool | int | float | str)
