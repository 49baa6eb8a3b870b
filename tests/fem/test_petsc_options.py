import pytest
from mpi4py import MPI
from petsc4py import PETSc

import spon
from spon.fem.petsc_options import PrefixedOptions


def test_an_object_never_sees_the_options_of_another_that_has_gone():
    """Objects that are collected without having read their options leave them in the database."""
    left = []
    for _ in range(100):
        ksp = PETSc.KSP().create(MPI.COMM_SELF)
        PrefixedOptions(ksp, {"pc_type": "cholesky"})
        left.append(f"{ksp.getOptionsPrefix()}pc_type")
        del ksp
        ksp = PETSc.KSP().create(MPI.COMM_SELF)
        ksp.getPC().setType("jacobi")
        options = PrefixedOptions(ksp, {"ksp_type": "cg"})
        options.apply()
        options.forget()
        assert ksp.getPC().getType() == "jacobi"
        assert ksp.getType() == "cg"
    for key in left:
        del PETSc.Options()[key]


def test_what_petsc_refuses_is_one_line_and_forgotten():
    ksp = PETSc.KSP().create(MPI.COMM_SELF)
    options = PrefixedOptions(ksp, {"ksp_type": "nonsense"})
    prefix = ksp.getOptionsPrefix()
    with pytest.raises(spon.SponError, match="PETSc refuses the options"):
        options.apply()
    assert not PETSc.Options().hasName(f"{prefix}ksp_type")
