"""Laws against finite differences, each other, and their formulas."""

import numpy as np
import pytest
import torch

import spon
from spon.multiscale.materials import MATERIALS, Material, describe_material, make_material
from spon.multiscale.micromodel import MaterialModel
from spon.multiscale.voigt import DIMENSIONS, deviatoric_projection, deviatoric_square, trace

LAWS = {
    "linear": spon.LinearElastic(K=43452.381, G=29918.0328),
    "deviatoric": spon.Deviatoric(K=4780.0, alpha1=50.0, alpha2=0.06),
}
SPACES = [3, 6]


class Quartic(Material):
    """A law of a user, by its potential alone."""

    def potential(self, strain):
        return trace(strain) ** 2 + deviatoric_square(strain) + deviatoric_square(strain) ** 2


LAWS["own"] = Quartic()


def strains(size, count=5, scale=0.03):
    values = np.random.default_rng(size).uniform(-scale, scale, (count, size))
    return torch.as_tensor(values)


def tensor(strain):
    """A strain as a 3 × 3 tensor."""
    xx, yy, zz, yz, xz, xy = torch.as_tensor(strain)
    return torch.stack([xx, xy / 2, xz / 2, xy / 2, yy, yz / 2, xz / 2, yz / 2, zz]).reshape(3, 3)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("size", SPACES)
def test_stress_and_tangent_are_derivatives_of_the_potential(law, size):
    material, strain, h = LAWS[law], strains(size), 1e-5
    stress, tangent = material.response(strain)
    for k in range(size):
        step = h * torch.eye(size, dtype=torch.float64)[k]
        slope = (material.potential(strain + step) - material.potential(strain - step)) / (2 * h)
        torch.testing.assert_close(stress[:, k], slope, rtol=1e-5, atol=1e-6 * float(stress.abs().max()))
        slope = (material.stress(strain + step) - material.stress(strain - step)) / (2 * h)
        torch.testing.assert_close(tangent[:, k], slope, rtol=1e-5, atol=1e-6 * float(tangent.abs().max()))
    assert (tangent - tangent.mT).abs().max() <= 1e-14 * tangent.abs().max()
    assert torch.linalg.eigvalsh(tangent).min() > 0


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("size", SPACES)
def test_closed_forms_agree_with_those_of_torch(law, size):
    material = LAWS[law]
    strain = torch.cat([strains(size), torch.zeros(1, size, dtype=torch.float64), 1e-9 * strains(size, 2)])
    stress, tangent = material.response(strain)
    expected = torch.func.vmap(torch.func.grad(material.potential))(strain)
    torch.testing.assert_close(stress, expected, rtol=1e-6, atol=1e-9)
    expected = torch.func.vmap(torch.func.hessian(material.potential))(strain)
    torch.testing.assert_close(tangent, expected, rtol=1e-6, atol=1e-6 * float(tangent.abs().max()))
    assert material.stress(strain)[5].abs().max() == 0


@pytest.mark.parametrize("law", LAWS)
def test_plane_strain_is_strain_in_space_without_that_out_of_plane(law):
    flat = strains(3)
    solid = torch.zeros(len(flat), 6, dtype=torch.float64)
    solid[:, [0, 1, 5]] = flat
    stress, tangent = LAWS[law].response(solid)
    here = LAWS[law].response(flat)
    torch.testing.assert_close(here[0], stress[:, [0, 1, 5]], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(here[1], tangent[:, [0, 1, 5]][:, :, [0, 1, 5]], rtol=1e-12, atol=1e-10)


def test_the_stress_of_the_deviatoric_law_is_that_of_its_paper():
    law, strain = LAWS["deviatoric"], strains(6, 1)
    E = tensor(strain[0])
    e = E - torch.eye(3, dtype=torch.float64) * E.trace() / 3
    S = law.K * E.trace() * torch.eye(3, dtype=torch.float64) + law.alpha1 * e / (law.alpha2 + e.norm())
    expected = torch.stack([S[0, 0], S[1, 1], S[2, 2], S[1, 2], S[0, 2], S[0, 1]])
    torch.testing.assert_close(law.stress(strain)[0], expected, rtol=1e-12, atol=1e-12)
    assert float(deviatoric_square(strain)) == pytest.approx(float(e.norm() ** 2), rel=1e-12)


def test_young_and_poisson_in_uniaxial_stress():
    law = spon.LinearElastic.from_young(210.0, 0.3)
    C = law.quadratic(6)
    strain = torch.linalg.solve(C, torch.tensor([1.0, 0, 0, 0, 0, 0], dtype=torch.float64))
    expected = torch.tensor([1.0, -0.3, -0.3, 0, 0, 0], dtype=torch.float64) / 210
    torch.testing.assert_close(strain, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("size", SPACES)
def test_potentials_are_the_quadratic_part_and_the_remainder(law, size):
    material, strain = LAWS[law], strains(size)
    C = material.quadratic(size)
    total = 0.5 * ((strain @ C) * strain).sum(1) + material.remainder(strain)
    torch.testing.assert_close(total, material.potential(strain), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", SPACES)
def test_the_projection_is_that_of_the_deviator(size):
    strain, P = strains(size), deviatoric_projection(size)
    torch.testing.assert_close(((strain @ P) * strain).sum(1), deviatoric_square(strain))
    volume = torch.zeros(size, dtype=torch.float64)
    volume[: DIMENSIONS[size]] = 1
    if size == 6:
        assert (P @ volume).abs().max() < 1e-15


def test_neo_hookean_is_small_strain_elasticity_at_first_order():
    law = spon.NeoHookean(mu=3.0, lam=2.0)
    small = spon.LinearElastic(K=2.0 + 2.0, G=3.0)  # K = λ + 2 μ / 3
    one = torch.eye(3, dtype=torch.float64)
    h = 1e-6 * torch.as_tensor(np.random.default_rng(0).standard_normal((3, 3)))
    P = law.stress((one + h)[None])[0]
    E = (h + h.T) / 2
    strain = torch.stack([E[0, 0], E[1, 1], E[2, 2], 2 * E[1, 2], 2 * E[0, 2], 2 * E[0, 1]])
    S = small.stress(strain[None])[0]
    found = torch.stack([P[0, 0], P[1, 1], P[2, 2], P[1, 2], P[0, 2], P[0, 1]])
    torch.testing.assert_close(found, S, rtol=1e-4, atol=1e-10)
    A = law.tangent(one[None])[0].reshape(9, 9)
    torch.testing.assert_close(A, A.T, rtol=1e-14, atol=1e-14)
    turned = torch.linalg.qr(torch.as_tensor(np.random.default_rng(1).standard_normal((3, 3)))).Q
    turned = turned * turned.det()
    F = one + 0.3 * torch.as_tensor(np.random.default_rng(2).uniform(-1, 1, (3, 3)))
    assert float(law.potential(turned @ F)) == pytest.approx(float(law.potential(F)), rel=1e-12)


@pytest.mark.parametrize("law", list(MATERIALS))
def test_laws_pass_through_their_description(law):
    material = next(m for m in LAWS.values() if type(m).__name__ == law)
    assert make_material(**describe_material(material)) == material


class Plastic(Quartic):
    state = ("plastic strain",)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spon.LinearElastic(K=0.0, G=1.0), "LinearElastic: K = 0.0; allowed: positive"),
        (lambda: spon.Deviatoric(K=1.0, alpha1=1.0, alpha2=-1.0), "alpha2 = -1.0; allowed: positive"),
        (lambda: spon.LinearElastic.from_young(1.0, 0.5), "nu = 0.5; allowed: between"),
        (lambda: spon.NeoHookean(mu=1.0, lam=-1.0), "lam = -1.0; allowed: positive"),
        (lambda: make_material("Cheese"), "no law 'Cheese'; allowed: LinearElastic, Deviatoric"),
        (lambda: make_material("LinearElastic", K=1.0), "parameters K; allowed: K, G"),
        (lambda: describe_material(Quartic()), "'Quartic' cannot be written to a file"),
        (lambda: MaterialModel(Plastic()), r"a law with history \(plastic strain\)"),
        (lambda: MaterialModel(spon.NeoHookean(1.0, 1.0)), "a law of the deformation gradient"),
        (lambda: MaterialModel("steel"), "str; allowed: a spon.Material"),
        (lambda: MaterialModel(LAWS["linear"], 4), "strain_size = 4; allowed: 3"),
        (lambda: MaterialModel(LAWS["linear"]).respond(strains(6)), "of 6 components; allowed: 3"),
        (lambda: LAWS["linear"].stress(strains(3).float()), "torch.float32; allowed: torch.float64"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(spon.SponError, match=message):
        make()
