"""Seconds and bytes per DoF of the Multigrid network, forward and backward, as the mesh grows.

Run with `./dev run python3 benchmarks/scaling.py`; writes results/scaling.json and RESULTS.md. A square of 8
intervals a side, refined 2 to 7 times, every level kept; one sample with random weights and a random
coefficient. Each row is a process of its own that loads a saved discretisation, one thread on the CPU;
median of repeated calls after a first one. Backward: forward with its graph, loss and gradients of all
parameters. Bytes: the largest resident memory during a call less that before it (on a GPU: allocated memory);
on small meshes it is mostly memory that earlier calls left, and means little. Growth: time of forward and
backward per DoF over its mean in all rows of the device; linear within 20 % means all are in 0.8 to 1.2.
Where there is a GPU its rows follow, with the share of its copy bandwidth that the sparse products of the
finest level reach: bytes of matrix, factor and product over seconds, over the same for a copy. With
`--files FOLDER` discretisations that are there already are measured, which needs no DOLFINx.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from results import record

import spon
from spon.nn.sparse import SparseMap

INTERVALS, REFINEMENTS = 8, (2, 3, 4, 5, 6, 7)
LINEAR = 0.2


def build(folder, refinements):
    """Save the discretisations that are missing, and return all their files."""
    files = []
    for k in refinements:
        files.append(folder / f"square-{k}.h5")
        if not files[-1].exists():
            mesh = folder / "square.geo"
            text = spon.find_mesh("square.geo").read_text()
            mesh.write_text(text.replace("n = 21;", f"n = {INTERVALS};"))
            Darcy = spon.load_problem(spon.find_problem("darcy.py")).Darcy
            Darcy.from_mesh(mesh, refinements=k, kind="lognormal").discretisation.save(files[-1])
    return files


def measure(file, device):
    """Return the row of a discretisation."""
    torch.set_num_threads(1)
    d = spon.Discretisation.load(file)
    model = spon.OperatorNetwork(d, spon.Multigrid(d), "log").to(device)
    torch.nn.init.normal_(model.processor.read.weight)
    x = torch.exp(0.5 * torch.randn(1, d.dofs, dtype=torch.float64, device=device))
    repeats = int(np.clip(2e6 / d.dofs, 3, 20))

    def forward():
        with torch.no_grad():
            model(x)

    def backward():
        model(x).square().sum().backward()

    row = {"device": torch.cuda.get_device_name() if device == "cuda" else "CPU, one thread", "DoFs": d.dofs}
    for name, call in (("forward", forward), ("backward", backward)):
        seconds, peak = cost(call, repeats, device)
        row[f"{name}, µs per DoF"] = 1e6 * seconds / d.dofs
        row[f"{name}, bytes per DoF"] = peak / d.dofs
    row["of copy bandwidth"] = share_of_copy(model, device) if device == "cuda" else "-"
    return row


def cost(call, repeats, device):
    """Return the median of seconds of a call, and the peak of memory that it adds."""
    call()
    before = memory(device)
    call()
    peak = memory(device, peak=True) - before
    durations = []
    for _ in range(repeats):
        start = clock(device)
        call()
        durations.append(clock(device) - start)
    return float(np.median(durations)), peak


def clock(device):
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def memory(device, peak=False):
    """Return bytes in use now, from when the peak is counted anew; or the peak."""
    if device == "cuda":
        if peak:
            return torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    if not peak:
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, proc(5)
    key = "VmHWM:" if peak else "VmRSS:"
    line = next(s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith(key))
    return 1024 * int(line.split()[1])


def share_of_copy(model, device):
    """Return the bandwidth of the sparse products of the finest level over that of a copy."""
    maps = [m for m in model.processor.operators[0].modules() if isinstance(m, SparseMap)]
    channels, moved, seconds = model.processor.settings["widths"][0], 0, 0.0
    for m in maps:
        x = torch.randn(m.shape[1], channels, device=device, dtype=m.data.dtype)
        seconds += cost(lambda m=m, x=x: m(x), 20, device)[0]
        matrix = sum(t.numel() * t.element_size() for t in (m.indptr, m.indices, m.data))
        moved += matrix + (m.shape[0] + m.shape[1]) * channels * x.element_size()
    big = torch.empty(2**28, device=device)
    copied = cost(lambda: big.clone(), 20, device)[0]
    return moved / seconds * copied / (2 * big.numel() * big.element_size())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--refinements", type=int, nargs="+", default=REFINEMENTS)
    parser.add_argument("--files", type=Path, help="folder of discretisations; default: a temporary one")
    parser.add_argument("--print", action="store_true", help="print the rows as JSON, record nothing")
    parser.add_argument("--measure", nargs=2, metavar=("FILE", "DEVICE"), help="one row, printed as JSON")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.files or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        files = build(folder, options.refinements)
        for device in devices:
            found = []
            for file in files:
                command = [sys.executable, __file__, "--measure", str(file), device]
                done = subprocess.run(command, env={**os.environ, **one}, stdout=subprocess.PIPE, check=True)
                found.append(json.loads(done.stdout.splitlines()[-1]))
            total = [r["forward, µs per DoF"] + r["backward, µs per DoF"] for r in found]
            rows += [{**r, "growth": t / float(np.mean(total))} for r, t in zip(found, total, strict=True)]
    if options.print:
        print(json.dumps(rows, indent=1))
    else:
        record("scaling", __doc__, rows)
    outside = [r["DoFs"] for r in rows if abs(r["growth"] - 1) > LINEAR]
    print(f"linear within {LINEAR:.0%}: " + (f"not at {outside} DoFs" if outside else "yes"))


if __name__ == "__main__":
    main()
