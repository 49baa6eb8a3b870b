"""Checks that forms are linear in their arguments, before DOLFINx compiles them."""

from __future__ import annotations

from typing import Any

import ufl
from ufl.algorithms import compute_form_data
from ufl.algorithms.check_arities import ArityMismatch
from ufl.algorithms.formtransformations import compute_form_arities

from spon.errors import SponError

__all__ = ["linear_form", "multilinear"]

_ARGUMENTS = {
    1: "one, the test function v, in each integral",
    2: "two, the trial function u and the test function v, in each integral",
}


def linear_form(form: Any) -> Any:
    """Return a residual after a check that it is linear in its only argument, v.

    Raises:
        SponError: it is not.
    """
    return multilinear(form, 1, "the residual", "F(u; m, v) linear in v")


def multilinear(form: Any, arguments: int, name: str, allowed: str) -> Any:
    """Return a UFL form after a check that it is linear in each of its arguments.

    Args:
        form: of UFL.
        arguments: how many it has to have, 1 or 2.
        name: of the form, for the message.
        allowed: what it should be, for the message.

    Raises:
        SponError: it is no form of so many arguments, or not linear in one of them.
    """
    count = len(form.arguments()) if isinstance(form, ufl.Form) else 0
    if count != arguments:
        raise SponError(f"{name} has {count} arguments of UFL; allowed: {_ARGUMENTS[arguments]}")
    of = "v" if arguments == 1 else "u and v"
    try:
        compute_form_data(form)
    except ArityMismatch as error:
        reason = str(error).splitlines()[0]
        raise SponError(f"{name} is not linear in {of}: {reason}; allowed: {allowed}") from error
    except ValueError as error:
        if len(compute_form_arities(form)) == 1:
            raise
        raise SponError(f"{name} is not linear in {of}: some terms lack it; allowed: {allowed}") from error
    return form
