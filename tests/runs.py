"""Folders as `spon train` leaves them, with a network that is normalised but not trained."""

from pathlib import Path

import torch

import spon


def network(dataset, transform="identity"):
    torch.manual_seed(0)
    d = dataset.discretisation
    scalar = d.input.components == 1
    processor = spon.Multigrid(d, widths=(4,) * len(d.levels), cycles=1, coefficient=scalar)
    model = spon.OperatorNetwork(d, processor, transform)
    train = dataset.parts()[0]
    model.fit_normalisation(train.inputs, train.outputs, train.shifts)
    return model


def write_run(folder: Path, dataset, transform="identity", epochs=6):
    """Write data.h5 and the folder of a run; return it and the network."""
    dataset.save(folder / "data.h5")
    run = folder / "run"
    run.mkdir()
    model = network(dataset, transform)
    spon.save_model(run / "model.pt", model)
    (run / "config.toml").write_text('[data]\npath = ["../data.h5"]\n\n[training]\nepochs = 6\n')
    lines = ["epoch,step,seconds,learning_rate,loss,validation_l2,validation_h1,best"]
    for k in range(1, epochs + 1):
        errors = f"{0.3 / k},{0.6 / k},1" if k % 2 == 0 else ",,0"
        lines.append(f"{k},{5 * k},{0.5 * k},{1e-3 / k},{1.0 / k},{errors}")
    (run / "log.csv").write_text("\n".join(lines) + "\n")
    return run, model
