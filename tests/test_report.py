import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from mpi4py import MPI
from runs import network

import spon
from meshes import box, mapped
from spon.baselines import MeanOutput
from spon.evaluation import measure
from spon.fem.mesh import TaggedMesh
from spon.nn.input_range import InputRange
from spon.plots import predictions_figure
from spon.report.content import Content
from spon.report.page import page

SECTIONS = ("errors", "exact", "distribution", "fields", "inputs", "learning", "timing", "settings")


def on(kind, degree, samples=12, vector=False):
    """A data set with a vector, cell values, numbers and boundary data."""
    arrays = mapped(box(kind, 2, degree), lambda x: (x[0] + 0.2 * x[1], *x[1:]))
    t = np.linspace(1, 3, samples)[:, None]
    x = arrays.points
    q = np.stack([np.sin(t * x[:, 0]), np.cos(t * x[:, 1])], axis=-1)
    u = t * x.sum(axis=1)
    return spon.import_arrays(
        TaggedMesh(arrays, MPI.COMM_SELF),
        {"q": q, "c": t * np.arange(len(arrays.cells)), "p": np.hstack([t, 2 * t])},
        ("u", np.stack([u, u**2], axis=-1) if vector else u),
        at={"p": "parameters"},
        boundary_data={"g": "left"},
        units={"u": "K"},
    )


def content(dataset, history=None, settings="", **changes):
    model = network(dataset)
    train, _, test = dataset.parts()
    measured = measure(model, test, {"mean_output": MeanOutput(train)})
    known = InputRange.of(model, train)
    metrics = measured.metrics() | {
        "seconds": {"prediction": 2e-3, "prediction_in_batch": 3e-5},
        "samples": {k: int(test.numbers[i]) for k, i in measured.ranked().items()},
        "versions": {"spon": "0", "device": "CPU"},
    }
    made = Content(
        "<title> & more",
        "test",
        train,
        measured,
        metrics,
        known.distance(model, test.inputs),
        history or {},
        settings,
        {"processor": "Multigrid", "parameters": "7"},
    )
    return replace(made, **changes), known.limits


@pytest.mark.parametrize(("kind", "degree"), [("quadrilateral", 2), ("tetrahedron", 1)])
def test_a_report_stands_alone_and_has_every_section(kind, degree):
    history = {
        "epoch": np.arange(1.0, 4),
        "loss": np.array([1, 0.5, 0.2]),
        "validation_l2": np.full(3, np.nan),
    }
    html = page(*content(on(kind, degree, vector=True), history, 'a = "<b>"'))
    for name in SECTIONS:
        assert f'<section id="{name}">' in html
    assert "http" not in html.replace("data:", "")
    for attribute in re.findall(r'(?:src|href)="([^"]*)"', html):
        assert attribute.startswith("data:image/")
    assert not re.search(r"<(script|link|iframe|object)|url\(|@import", html)
    assert len(re.findall("data:image/svg", html)) == 3
    assert len(re.findall("data:image/png", html)) == 1
    assert "&lt;title&gt; &amp; more" in html
    assert "a = &quot;&lt;b&gt;&quot;" in html


def test_what_is_missing_is_said():
    made, limits = content(on("triangle", 1))
    html = page(made, limits)
    for text in (
        "The finite-element floor is not shown",
        "The regression baseline is not shown",
        "there is no log.csv",
        "There is no config.toml",
        "does not say how long its solves took",
    ):
        assert text in html
    assert "needs three training samples" in page(replace(made, distance=None), None)


def test_the_floor_of_the_data_set_is_shown(dataset):
    floors = {
        f"fe_{kind}_{norm}": np.full(24, 0.01234) for kind in ("floor", "solve") for norm in ("l2", "h1")
    }
    made, limits = content(replace(dataset, statistics={**dataset.statistics, **floors}))
    assert made.metrics["fe_floor_l2"]["mean"] == pytest.approx(0.01234)
    html = page(made, limits)
    assert html.count("FE floor (best in this space)") == 2
    assert "1.234%" in html
    assert "is not shown" not in html.split('id="exact"')[0].replace(
        "The regression baseline is not shown", ""
    )


def test_reference_and_prediction_have_the_same_colours(dataset):
    predicted = 2.0 * dataset.outputs + 0.1
    figure = predictions_figure(dataset, predicted, [("median", 3), ("worst", 5)])
    assert isinstance(figure, Figure)
    panels = {}
    for axis in figure.axes:
        if axis.get_title():
            panels.setdefault(axis.get_title(), []).append(axis.collections[0])
    assert list(panels)[:3] == ["median sample: input kappa", "reference u", "prediction u"]
    for k, sample in enumerate((3, 5)):
        u, guess = dataset.outputs[sample], predicted[sample]
        limits = min(u.min(), guess.min()), max(u.max(), guess.max())
        for name in ("reference u", "prediction u"):
            assert panels[name][k].get_clim() == pytest.approx(limits)
        np.testing.assert_array_equal(panels["reference u"][k].get_array(), u)
        np.testing.assert_array_equal(panels["prediction u"][k].get_array(), guess)
    errors = [c for title, found in panels.items() if title.startswith("error, relative L2") for c in found]
    for one, sample in zip(errors, (3, 5), strict=True):
        gap = predicted[sample] - dataset.outputs[sample]
        np.testing.assert_allclose(one.get_array(), gap)
        assert one.get_clim() == pytest.approx((-np.abs(gap).max(), np.abs(gap).max()))


def test_errors_of_vectors_are_magnitudes_of_differences():
    data = on("triangle", 1, vector=True)
    predicted = data.outputs + np.tile([3.0, 4.0], data.outputs.shape[1] // 2)
    figure = predictions_figure(data, predicted, [("best", 0)])
    (error,) = [a for a in figure.axes if a.get_title().startswith("error")]
    np.testing.assert_allclose(error.collections[0].get_array(), 5.0)
