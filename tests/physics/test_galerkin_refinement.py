"""Refinement of predictions: Galerkin solutions in small spaces, never worse, whatever the prediction."""

import equations
import numpy as np
import pytest
import torch
from physics_cases import inputs

import spon
from spon.nn.processors import PROCESSORS, find_processor

SAMPLES = 3


class Case:
    """A problem with its solutions, and predictions of all kinds."""

    def __init__(self, name):
        problem = (equations.LINEAR | {"beam": equations.beam})[name]()
        self.d, self.m = problem.discretisation, inputs(problem, SAMPLES)
        self.solver = spon.MultigridSolver(self.d, problem.physics())
        rows = [problem.shift(row) for row in self.m.numpy()]
        plain = self.solver.shift.expand(SAMPLES, -1)
        self.shift = plain if rows[0] is None else torch.as_tensor(np.array(rows))
        self.u, _ = self.solver.solve(None, self.m, 1e-13, shift=self.shift)
        Z, rng = problem.constraint.Z, np.random.default_rng(0)
        noise = torch.as_tensor((Z @ rng.standard_normal((Z.shape[1], SAMPLES))).T)
        hat = self.u - self.shift
        size = float(hat.std())
        smooth = self.solver.cycle(noise, self.m)
        self.predictions = {
            "mixed": self.shift + 0.9 * hat + 0.1 * hat.roll(1, 0) + 0.1 * size / smooth.std() * smooth,
            "rough": self.u + 1e-3 * size * noise,
            "lifting": self.shift.clone(),
            "far": self.shift - 40.0 * hat + size * noise,
            "exact": self.u.clone(),
        }
        self.predictions = {k: self.solver.centred(v) for k, v in self.predictions.items()}

    def energy(self, v):
        """(vᵀJv)^½ at the solutions."""
        kernel = self.solver.kernel
        Jv = kernel.jacobian(None if kernel.linear else self.u, self.m, v)
        return (Jv * v).sum(dim=1).clamp_min(0.0).sqrt()

    def error(self, u):
        return self.energy(u - self.u) / self.energy(self.u - self.shift)

    def galerkin(self, u, functions):
        """The minimiser in u + span of functions (k, batch, DoFs), by dense least squares."""
        kernel, out = self.solver.kernel, u.clone()
        r = -kernel.residual(u, self.m)
        for k in range(SAMPLES):
            m = self.m[k : k + 1]
            V = torch.stack([f[k] / f[k].norm().clamp_min(1e-300) for f in functions])
            gram = V @ torch.cat([kernel.jacobian(None, m, one[None]) for one in V]).T
            c = np.linalg.lstsq(gram.numpy(), (V @ r[k]).numpy(), rcond=1e-12)[0]
            out[k] += torch.as_tensor(c) @ V
        return self.solver.centred(out)


@pytest.fixture(scope="module")
def case():
    made = {}
    return lambda name: made.setdefault(name, Case(name))


@pytest.mark.parametrize("name", equations.LINEAR)
@pytest.mark.parametrize("directions", [1, 3])
def test_the_energy_error_of_a_linear_problem_never_grows(case, name, directions):
    c = case(name)
    refine = spon.GalerkinRefinement(c.solver, directions)
    for kind, u in c.predictions.items():
        before, after = c.error(u), c.error(refine(u, c.m, c.shift))
        assert bool((after <= before * (1 + 1e-9) + 1e-11).all()), kind
        if kind != "exact":
            assert bool((after < (0.5 if directions == 1 else 0.05) * before).all()), (kind, before, after)


@pytest.mark.parametrize("name", equations.LINEAR)
def test_the_refined_field_is_the_galerkin_solution_in_its_space(case, name):
    c = case(name)
    for kind in ("mixed", "rough", "lifting", "far"):
        u = c.predictions[kind]
        hat = u - c.shift
        best = c.galerkin(u, [hat])
        r = -c.solver.kernel.residual(best, c.m)
        space = [hat, c.solver.cycle(r, c.m)]
        one = c.galerkin(best, space)
        space.append(c.solver.cycle(-c.solver.kernel.residual(one, c.m), c.m))
        for directions, wanted in ((1, one), (2, c.galerkin(one, space))):
            found = spon.GalerkinRefinement(c.solver, directions)(u, c.m, c.shift)
            assert float(c.energy(found - wanted).max()) <= 1e-6 * float(c.energy(u - c.u).max())
            r = c.solver.reduced(-c.solver.kernel.residual(found, c.m))
            for f in space[: directions + 1]:  # Galerkin orthogonality
                v = c.solver.free(f)
                assert bool(((r * v).sum(dim=0).abs() <= 1e-6 * c.energy(f) * c.energy(u - c.u)).all())


def test_multiples_of_a_prediction_are_refined_to_the_same_field(case):
    c = case("boundary data")
    refine = spon.GalerkinRefinement(c.solver, 2)
    hat = c.predictions["mixed"] - c.shift
    found = refine(c.shift + hat, c.m, c.shift)
    for factor in (-3.0, 1e-3, 50.0):
        other = refine(c.shift + factor * hat, c.m, c.shift)
        torch.testing.assert_close(other, found, rtol=0, atol=1e-6 * float(found.std()))


@pytest.mark.parametrize("name", ["boundary data", "periodic"])
def test_boundary_values_and_mean_are_exact_and_samples_independent(case, name):
    c = case(name)
    refine = spon.GalerkinRefinement(c.solver)
    u = c.predictions["mixed"]
    found = refine(u, c.m, c.shift)
    fixed = c.d.constraint.fixed
    assert torch.equal(found[:, fixed], c.shift[:, fixed])
    if c.d.zero_mean is not None:
        assert np.abs(c.d.zero_mean.mean(found.numpy())).max() < 1e-14
    alone = torch.cat([refine(u[k : k + 1], c.m[k : k + 1], c.shift[k : k + 1]) for k in range(SAMPLES)])
    torch.testing.assert_close(alone, found, rtol=0, atol=1e-6 * float(found.std()))
    many = [part.repeat(30, 1) for part in (u, c.m, c.shift)]  # more than one batch inside
    torch.testing.assert_close(refine(*many), found.repeat(30, 1), rtol=0, atol=1e-6 * float(found.std()))


@pytest.mark.parametrize("directions", [1, 3])
def test_the_potential_of_a_nonlinear_problem_never_grows(case, directions):
    c = case("beam")
    refine = spon.GalerkinRefinement(c.solver, directions)
    potential = c.solver.kernel.energy
    for kind, u in c.predictions.items():
        found = refine(u, c.m)
        before, after = potential(u, c.m), potential(found, c.m)
        scale = potential(c.u, c.m).abs()
        assert bool((after <= before + 1e-10 * scale).all() | before.isinf().any()), (kind, before, after)
        assert bool((found == u).all(dim=1)[before.isinf()].all())
        if kind in ("mixed", "rough", "lifting"):
            assert bool((c.error(found) < c.error(u)).all()), (kind, c.error(u), c.error(found))


def test_a_folded_body_stays_and_the_others_are_refined(case):
    c = case("beam")
    u = c.predictions["mixed"].clone()
    refine = spon.GalerkinRefinement(c.solver)
    wanted = refine(u, c.m)
    u[1] = c.shift[1] - 1e3 * (u[1] - c.shift[1])
    assert bool(c.solver.kernel.energy(u, c.m)[1].isinf())
    found = refine(u, c.m)
    assert torch.equal(found[1], u[1])
    torch.testing.assert_close(found[::2], wanted[::2], rtol=0, atol=1e-5 * float(wanted.std()))


def test_an_indefinite_tangent_of_one_sample_does_not_change_the_others(case):
    """Far from u = 0, where B at u and B at zero differ; the sample itself has that at zero."""
    c = case("beam")
    refine = spon.GalerkinRefinement(c.solver)
    hat = c.u - c.shift
    u = c.shift - torch.tensor([[2.0], [8.0], [3.0]], dtype=torch.float64) * hat
    before = c.solver.kernel.energy(u, c.m)
    assert bool(before.isfinite().all())
    c.solver.prepare(c.m[::2], u[::2])
    with pytest.raises(spon.SponError, match="of sample 1 of the batch is not positive definite"):
        c.solver.prepare(c.m, u)
    found = refine(u, c.m, c.shift)
    alone = [refine(u[k : k + 1], c.m[k : k + 1], c.shift[k : k + 1]) for k in range(SAMPLES)]
    torch.testing.assert_close(found, torch.cat(alone), rtol=0, atol=1e-6 * float(hat.std()))
    assert bool((c.solver.kernel.energy(found, c.m) < before).all())


# ------------------------------------------------------------------------ the last layer


def network(c, kind, transform="identity", outputs=None):
    """An untrained network with a read-out layer that is not zero."""
    outputs = c.predictions["mixed"] if outputs is None else outputs
    processor = find_processor(kind)(c.d)
    model = spon.OperatorNetwork(c.d, processor, transform)
    model.fit_normalisation(c.m.numpy(), outputs.numpy(), c.shift.numpy())
    if hasattr(processor, "read"):
        torch.nn.init.normal_(processor.read.weight, std=0.1)
        torch.nn.init.normal_(processor.read.bias, std=0.1)
    return model.eval()


LAYERED = ["Graph", "LowRank", "Multigrid", "SliceAttention"]


@pytest.mark.parametrize("kind", LAYERED)
@pytest.mark.parametrize("name", ["boundary data", "elasticity", "periodic"])
def test_last_features_span_what_the_last_layer_can_change(case, kind, name):
    c = case(name)
    model = network(c, kind)
    with torch.no_grad():
        features = model.last_features(c.m, c.shift)
        before = model(c.m, c.shift)
        last = model.processor.dense[-1] if kind == "LowRank" else model.processor.read
        torch.nn.init.normal_(last.weight, std=0.1)
        torch.nn.init.normal_(last.bias, std=0.1)
        change = model(c.m, c.shift) - before
    for k in range(SAMPLES):
        V, w = features[:, k].numpy().T, change[k].numpy()
        rest = w - V @ np.linalg.lstsq(V, w, rcond=None)[0]
        assert np.linalg.norm(rest) < 1e-4 * np.linalg.norm(w)
    assert not bool(features[:, :, c.d.constraint.fixed].any())


@pytest.mark.parametrize("kind", LAYERED)
@pytest.mark.parametrize("name", ["boundary data", "elasticity"])
def test_the_last_layer_becomes_the_galerkin_solution(case, kind, name):
    c = case(name)
    model = network(c, kind)
    refine = spon.LastLayerRefinement(model, c.solver)
    with torch.no_grad():
        u, features = model(c.m, c.shift), model.last_features(c.m, c.shift)
    found = refine(u, c.m, c.shift)
    before, after = c.error(u), c.error(found)
    assert bool((after <= before * (1 + 1e-9)).all())
    wanted = c.galerkin(u, list(features))
    assert bool((c.error(found) <= c.error(wanted) + 1e-4 * before).all()), (c.error(found), c.error(wanted))
    torch.testing.assert_close(refine(found, c.m, c.shift), found, rtol=0, atol=1e-5 * float(found.std()))


def test_dependent_features_do_no_harm(case):
    c = case("diffusion")
    model = network(c, "Multigrid", "log")
    with torch.no_grad():
        u, features = model(c.m), model.last_features(c.m)

    class Doubled:
        fingerprint = c.d.fingerprint

        def last_features(self, inputs, shift=None):
            nearly = features * (1 + 1e-9)
            return torch.cat([features, 1e6 * features, nearly, 0 * features, features.sum(0, keepdim=True)])

    plain = spon.LastLayerRefinement(model, c.solver)(u, c.m)
    found = spon.LastLayerRefinement(Doubled(), c.solver)(u, c.m)
    assert bool((c.error(found) <= c.error(u)).all())
    assert float(c.energy(found - plain).max()) <= 1e-4 * float(c.energy(u - c.u).max())


def test_the_last_layer_of_a_nonlinear_problem_lowers_the_potential(case):
    c = case("beam")
    model = network(c, "LowRank", outputs=c.u)
    potential = c.solver.kernel.energy
    u = c.shift + 0.8 * (c.u - c.shift)
    found = spon.LastLayerRefinement(model, c.solver)(u, c.m)
    assert bool((potential(found, c.m) < potential(u, c.m)).all())
    assert bool((c.error(found) < 0.5 * c.error(u)).all())  # modes of these very solutions
    folded = c.shift - 1e3 * (c.u - c.shift)
    assert torch.equal(spon.LastLayerRefinement(model, c.solver)(folded, c.m), folded)


def test_what_does_not_fit_is_refused(case):
    c = case("diffusion")
    assert sorted(LAYERED) == sorted(k for k in PROCESSORS if "last_features" in vars(find_processor(k)))
    with pytest.raises(spon.SponError, match="allowed: Graph, LowRank, Multigrid, SliceAttention"):
        spon.LastLayerRefinement(network(c, "Linear"), c.solver)(c.u, c.m)
    other = case("periodic")
    with pytest.raises(spon.SponError, match="the model belongs to another discretisation"):
        spon.LastLayerRefinement(network(other, "Multigrid"), c.solver)
    with pytest.raises(spon.SponError, match="directions = 0; allowed: >= 1"):
        spon.GalerkinRefinement(c.solver, 0)
    with pytest.raises(spon.SponError, match=r"u of shape \(3, 5\).*allowed"):
        spon.GalerkinRefinement(c.solver)(c.u[:, :5], c.m)
    with pytest.raises(spon.SponError, match="not positive definite"):
        spon.GalerkinRefinement(c.solver)(c.u, -c.m)
