"""Surrogates are the same to the last bit in every process: training would amplify what differs."""

import subprocess
import sys
from pathlib import Path

FIT = """
import hashlib, torch, spon
from cells import GridCell

cell = GridCell(6)
snapshots = spon.take_snapshots(cell, torch.as_tensor(spon.latin_hypercube(12, 3, 0.04, 0)))
reduced = spon.reduce_rve(cell, snapshots, rank=4)
strain = torch.as_tensor(spon.latin_hypercube(9, 3, 0.04, 1))
made = [
    reduced,
    spon.learn_amplitudes(reduced, samples=50, iterations=50),
    spon.learn_potential(reduced, samples=50, units=4, iterations=20),
    spon.learn_potential(reduced, "PolynomialPotential", samples=50, degree=4),
    spon.learn_potential(reduced, "MLPPotential", samples=50, iterations=50),
    spon.EquiNO.fit(cell, snapshots, rank=4, strains=50, steps=50, refinements=50),
    spon.VariationalDeepONet.fit(cell, snapshots, rank=4, steps=20, refinements=20),
]
for surrogate in made:
    print(hashlib.sha256(surrogate.respond(strain).stress.contiguous().numpy().tobytes()).hexdigest())
"""


def test_every_process_finds_the_same_bits():
    tests = Path(__file__).parent.parent
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FIT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tests
        )
        for _ in range(3)
    ]
    found = [process.communicate() for process in processes]
    assert all(process.returncode == 0 for process in processes), found[0][1]
    assert found[0][0] == found[1][0] == found[2][0]
    assert len(set(found[0][0].split())) == 7
