"""PETSc options of one object: set under a prefix of its own, and removed when it has read them."""

from __future__ import annotations

from itertools import count
from typing import Any

from petsc4py import PETSc

from spon.errors import SponError

__all__ = ["PrefixedOptions", "own_prefix"]

_NUMBERS = count()


def own_prefix() -> str:
    """Return a prefix that no object of this process has had.

    Not one by `id`: options of an object that has gone without having read them are still in the
    database, and another object may get its id, on one rank alone.
    """
    return f"spon_{next(_NUMBERS)}_"


class PrefixedOptions:
    """Options of one PETSc object in PETSc's global database.

    Args:
        target: `PETSc.SNES`, `PETSc.KSP` or the like; gets a prefix that no other object has.
        options: without prefix.
    """

    def __init__(self, target: Any, options: dict[str, Any]) -> None:
        self._target, self._options = target, options
        prefix = own_prefix()
        target.setOptionsPrefix(prefix)
        self._database = PETSc.Options()
        self._keys = [f"{prefix}{key}" for key in options]
        for key, value in zip(self._keys, options.values(), strict=True):
            self._database[key] = value

    def apply(self) -> None:
        """Configure the object. Collective.

        Raises:
            SponError: PETSc refuses a value.
        """
        try:
            self._target.setFromOptions()
        except PETSc.Error as error:
            self.forget()
            raise SponError(f"PETSc refuses the options {self._options}: error {error.ierr}") from error

    def forget(self) -> None:
        """Remove them from the database; factorisations read theirs in the first solve, so not before."""
        for key in self._keys:
            del self._database[key]
        self._keys = []
