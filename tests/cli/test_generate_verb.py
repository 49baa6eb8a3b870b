import fcntl
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

import spon
from spon.cli.main import main

WORLD = MPI.COMM_WORLD
TINY = ["generate", "plate", "--refinements", "0", "--seed", "3"]
BUGGY = """
import spon

class Buggy(spon.load_problem(spon.find_problem("plate.py")).Plate):
    def sample(self, rng):
        m = super().sample(rng)
        self.count = getattr(self, "count", 0) + 1
        if self.count == 3 and self.comm.rank == 0:
            raise ZeroDivisionError("of the user")
        return m
"""


def same(path, reference):
    data, other = spon.Dataset.load(path), spon.Dataset.load(reference)
    np.testing.assert_array_equal(data.numbers, other.numbers)
    np.testing.assert_allclose(data.inputs, other.inputs, rtol=1e-10)
    np.testing.assert_allclose(data.outputs, other.outputs, rtol=1e-10, atol=1e-10)
    assert data.sizes == other.sizes


@pytest.mark.mpi
def test_command_gives_the_same_file_for_any_number_of_ranks_per_sample(shared_folder, capsys):
    for k in {1, WORLD.size}:
        more = [
            "--ranks-per-sample",
            str(k),
            "-n",
            "7",
            "--split",
            "4,3",
            "-o",
            str(shared_folder / f"{k}.h5"),
        ]
        main([*TINY, *more])
        main([*TINY, *more])
    plate = spon.load_problem(spon.find_problem("plate.py")).Plate
    alone = spon.generate(plate.from_mesh(group=MPI.COMM_SELF, refinements=0), 7, seed=3)
    for k in {1, WORLD.size}:
        data = spon.Dataset.load(shared_folder / f"{k}.h5")
        np.testing.assert_allclose(data.inputs, alone.inputs, rtol=1e-10)
        np.testing.assert_allclose(data.outputs, alone.outputs, atol=1e-10)
        assert data.sizes == (4, 3)
    out = capsys.readouterr().out
    if WORLD.rank > 0:
        assert out == ""
        return
    assert f"ranks    {WORLD.size}: {WORLD.size} group" in out
    assert "samples  7 solved, 0 failed, " in out
    assert "iterations   mean " in out
    assert "is complete: 7 samples; nothing to do" in out


@pytest.mark.mpi
def test_dry_run_writes_nothing(shared_folder, capsys):
    main([*TINY, "-n", "1000", "-o", str(shared_folder / "a.h5"), "--dry-run"])
    assert list(shared_folder.iterdir()) == []
    out = capsys.readouterr().out
    if WORLD.rank == 0:
        assert "measured set-up" in out
        assert "estimate 1000 samples: " in out


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", "0"], "samples 0; allowed: >= 1"),
        (["-n", "3", "--seed", "-1"], "seed -1; allowed: >= 0"),
        (["-n", "3", "--split", "2,2"], "cannot split 3 samples into 2, 2"),
        (["-n", "3", "--backend", "abacus"], "backend 'abacus'; allowed: petsc"),
        (["-n", "3", "--ranks-per-sample", "4"], "4 ranks per sample; allowed: divisors of"),
        (["-n", "3", "--ranks-per-sample", "0"], "0 ranks per sample; allowed: divisors of"),
        (["-n", "3", "--mesh", "absent.msh"], "no such mesh file: absent.msh"),
        (["-n", "3", "--refinements", "-1"], "refinements = -1; allowed: 0, 1, 2"),
        (["-n", "3", "--class", "Beam"], "class 'Beam' not found in"),
        (["-n", "3", "-o", "/proc/spon/a.h5"], "cannot write into the folder /proc/spon"),
        (["-n", "3", "-o", "/proc"], "cannot write /proc: it is a folder"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(shared_folder, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main([*TINY, "-o", str(shared_folder / "a.h5"), *arguments])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    if WORLD.rank == 0:
        assert message in error
        assert len(error.strip().splitlines()) == 1
    assert list(shared_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import spon", "defines no problem; it needs a class derived from spon.Problem"),
        (
            "import spon\nclass A(spon.Problem): pass\nclass B(A): pass",
            "defines several problems; choose one with --class: A, B",
        ),
        (None, "no such problem file"),
    ],
)
def test_problem_files_without_one_problem_are_refused(tmp_path, capsys, text, message):
    if text is not None:
        (tmp_path / "p.py").write_text(text)
    with pytest.raises(SystemExit):
        main(["generate", str(tmp_path / "p.py"), "-n", "1", "-o", str(tmp_path / "a.h5")])
    assert message in capsys.readouterr().err


def command(output, samples, ranks=1, problem="plate"):
    """A command line whose ranks are processes of their own."""
    own = [sys.executable, "-m", "spon", "generate", str(problem), "--refinements", "0", "-n", str(samples)]
    return [
        *(["mpirun", "-n", str(ranks)] if ranks > 1 else []),
        *own,
        "--shard-size",
        "1",
        "-o",
        str(output),
    ]


def environment():
    """Without what MPI told this process about itself, and with a folder of its own for what it leaves.

    A mpirun that was killed leaves a folder of its process number behind, which is used again some day.
    """
    own = ("OMPI_COMM", "PMIX_", "PRTE_LAUNCHED")
    return {k: v for k, v in os.environ.items() if not k.startswith(own)} | {"TMPDIR": tempfile.mkdtemp()}


@pytest.mark.parametrize("per_sample", [1, 2])
def test_a_bug_of_the_user_ends_all_ranks_with_his_traceback(tmp_path, per_sample):
    (tmp_path / "buggy.py").write_text(BUGGY)
    line = [*command(tmp_path / "a.h5", 20, 2, tmp_path / "buggy.py"), "--ranks-per-sample", str(per_sample)]
    ended = subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode not in (0, 2)
    assert 'raise ZeroDivisionError("of the user")' in ended.stderr


def descendants(pid):
    """The process and what it started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        children = []
    return [pid, *(one for child in children for one in descendants(int(child)))]


def killed(line, folder, shards, moment, choose):
    """Run, kill one of the processes some seconds after a number of shards; whether it came to that."""
    parts = folder / "a.h5.parts"
    (parts / "lock").unlink(missing_ok=True)
    with (folder / "errors.txt").open("w") as errors:
        run = subprocess.Popen(
            line, env=environment(), start_new_session=True, stdout=subprocess.DEVNULL, stderr=errors
        )

    def ended(seconds):
        try:
            return run.wait(seconds) is not None
        except subprocess.TimeoutExpired:
            return False

    while not (parts / "lock").exists() or len(list(parts.glob("shard-*"))) < shards:
        if ended(0.003):
            break
    if ended(moment):
        assert run.returncode == 0, (folder / "errors.txt").read_text()
        return False
    everyone = descendants(run.pid)
    try:
        os.kill(choose(everyone), signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        run.wait(60)
    for pid in everyone:  # ranks outlive their mpirun for a moment
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    if (parts / "lock").exists():
        with (parts / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
    return True


def test_killed_at_any_moment_the_same_command_goes_on(tmp_path, pytestconfig):
    draw, samples = random.Random(5), 60
    output, reference = tmp_path / "a.h5", tmp_path / "reference.h5"
    parts = tmp_path / "a.h5.parts"
    subprocess.run(command(reference, samples), env=environment(), check=True, capture_output=True)
    kills = {1: 14, 2: 8} if pytestconfig.getoption("full") else {1: 6, 2: 4}
    for ranks, wanted in kills.items():
        line, count = command(output, samples, ranks), 0
        while count < wanted:
            before = len(list(parts.glob("shard-*")))
            after = min(before + draw.randint(0, 15), samples)
            count += killed(
                line, tmp_path, after, draw.uniform(0, 0.01 if after < samples else 0.3), draw.choice
            )
            assert len(list(parts.glob("shard-*"))) >= before or output.exists()
            if output.exists() or len(list(parts.glob("shard-*"))) == samples:
                subprocess.run(line, env=environment(), check=True, capture_output=True)
                same(output, reference)
                assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "errors.txt", "reference.h5"]
                output.unlink()
    subprocess.run(command(output, samples), env=environment(), check=True, capture_output=True)
    same(output, reference)


FATAL = """
import os, signal, sys
from pathlib import Path

name, which, before = sys.argv[1], sys.argv[2], sys.argv[3] == "before"
original = getattr(Path, name)

def fatal(path, *args, **more):
    hit = path.name == which or which in map(str, args)
    if hit and before:
        os.kill(os.getpid(), signal.SIGKILL)
    original(path, *args, **more)
    if hit:
        os.kill(os.getpid(), signal.SIGKILL)
    return path

setattr(Path, name, fatal)
from spon.cli.main import main
main(sys.argv[4:])
"""


@pytest.mark.parametrize(
    ("name", "which", "when"),
    [
        ("replace", "merged.h5", "before"),  # half of the data set is written
        ("replace", "a.h5", "before"),  # it is complete, under another name
        ("replace", "a.h5", "after"),
        ("unlink", "shard-000000001.h5", "after"),
        ("unlink", "manifest.json", "after"),
        ("rmdir", "a.h5.parts", "before"),
    ],
)
def test_killed_while_merging_nothing_is_lost(tmp_path, capsys, name, which, when):
    output = tmp_path / "a.h5"
    target = str(output) if which == "a.h5" else which
    line = [*TINY, "-n", "3", "--shard-size", "1", "-o", str(output)]
    ended = subprocess.run(
        [sys.executable, "-c", FATAL, name, target, when, *line],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    main(line)
    out = capsys.readouterr().out
    assert ("is complete" if output.exists() and "resuming" not in out else "resuming: 3 of 3") in out
    main([*TINY, "-n", "3", "-o", str(tmp_path / "b.h5")])
    same(output, tmp_path / "b.h5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "b.h5"]
