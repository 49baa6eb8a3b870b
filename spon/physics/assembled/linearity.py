"""Checks that forms are linear, before DOLFINx compiles them."""

from __future__ import annotations

from typing import Any

import ufl
from ufl.algorithms import compute_form_data
from ufl.algorithms.check_arities import ArityMismatch

from spon.errors import SponError

__all__ = ["linear_form"]


def linear_form(form: Any) -> Any:
    """Return a residual after a check that it is linear in its only argument, v.

    Raises:
        SponError: it is not.
    """
    if not isinstance(form, ufl.Form) or len(form.arguments()) != 1:
        count = len(form.arguments()) if isinstance(form, ufl.Form) else 0
        raise SponError(
            f"the residual has {count} arguments of UFL; allowed: one, the test function v, in each integral"
        )
    try:
        compute_form_data(form)
    except ArityMismatch as error:
        reason = str(error).splitlines()[0]
        raise SponError(
            f"the residual is not linear in v: {reason}; allowed: F(u; m, v) linear in v"
        ) from error
    return form
