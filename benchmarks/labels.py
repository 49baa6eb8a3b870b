"""What labels are worth: the same networks trained with labels, with equations alone, and with both.

Run `python3 benchmarks/labels.py`; about a quarter of an hour on one core.
"""

import numpy as np
import torch
from mpi4py import MPI
from results import record

import spon
from spon.evaluation import relative_errors

SECONDS = 20.0  # processor time of each training
HELD_OUT = 100  # validation samples, and as many test samples
PROCESSORS = ("Multigrid", "LearnedCorrection")
PROBLEMS = {  # file and settings; numbers of training samples
    "plate": (("darcy", {"path": "plate.geo", "kind": "lognormal"}), (50, 200, 1000)),
    "square": (("darcy", {"path": "square.geo"}), (200,)),
    "sheet": (("elasticity", {"path": "perforated.geo"}), (200,)),
}
DESCRIPTION = f"""
What labels are worth: mean relative errors in % of {HELD_OUT} test samples, {SECONDS:g} s of processor time.

"plate": log-normal Darcy (u = 0 on the outer edges and the holes) on the plate with three holes; "square":
two-phase Darcy 12/3, a value per cell; "sheet": elasticity of the perforated sheet; all refined twice.
"labels": relative H1 error; "none": residual in the dual norm, or potential, of as many inputs, whose outputs
are never read; "both": the mean of the relative H1 error and the residual. The best model on {HELD_OUT}
validation samples by the same loss is kept. Multigrid starts from one cycle (guess="start"); "untrained" are
both as they are made, normalised. Energy: that of the sample's own operator. One thread; all else as by
default.
"""
KINDS = {
    "labels": ("none", 1.0),
    "none, residual": ("residual", 0.0),
    "none, potential": ("potential", 0.0),
    "both, residual": ("residual", 0.5),
}


def generated(file, settings, samples):
    """Samples of a problem file."""
    cls = getattr(spon.load_problem(spon.find_problem(f"{file}.py")), file.capitalize())
    settings = settings | {"path": spon.find_mesh(settings["path"])}
    return spon.generate(cls.from_mesh(group=MPI.COMM_SELF, refinements=2, **settings), samples, seed=0)


def network(name, data):
    """A network with its default settings."""
    settings = {"guess": "start", "coefficient": True} if name == "Multigrid" else {}
    processor = getattr(spon, name)(data.discretisation, **settings)
    processor.use(data.physics)
    return spon.OperatorNetwork(data.discretisation, processor, transform="log")


def errors(model, data):
    """Mean relative L2 and energy errors, %."""
    u = model.predict(data.inputs, shift=data.shifts)
    kernel = spon.make_kernel(data.discretisation, data.physics)
    m = torch.as_tensor(data.inputs)
    squares = [
        (v * kernel.jacobian(None, m, v)).sum(dim=1).numpy()
        for v in (torch.as_tensor(u - data.outputs), torch.as_tensor(data.outputs))
    ]
    energy = np.sqrt(squares[0] / squares[1]).mean()
    return {"L2 %": 100 * float(relative_errors(data, u, "l2").mean()), "energy %": 100 * float(energy)}


def compare(problem, data, counts):
    """Rows of one problem."""
    train, validation, test = data.split(max(counts), HELD_OUT, HELD_OUT)
    rows = []

    def add(model, kind, count):
        row = {"problem": problem, "processor": name, "trained on": kind, "samples": count}
        rows.append(row | errors(model, test))
        print(rows[-1], flush=True)

    for name in PROCESSORS:
        model = network(name, train)
        model.fit_normalisation(train.inputs, train.outputs, train.shifts)
        add(model, "untrained", 0)
        for count in counts:
            some = train.split(count, len(train) - count)[0] if count < len(train) else train
            for kind, (loss, weight) in KINDS.items():
                settings = spon.Training(
                    max_seconds=SECONDS, clock="process", physics_loss=loss, label_weight=weight
                )
                model = network(name, train)
                spon.Trainer(model, some, settings, validation).run()
                add(model, kind, count)
    return rows


def labels():
    """Train and record."""
    rows = []
    for name, (made, counts) in PROBLEMS.items():
        rows += compare(name, generated(*made, max(counts) + 2 * HELD_OUT), counts)
        record("labels", DESCRIPTION, rows)  # after each problem: it may be stopped


if __name__ == "__main__":
    torch.set_num_threads(1)
    labels()
