"""Learn conductivity ↦ temperature on a plate with holes: the demo's job against the public API.

Run with `python3 examples/plate.py` or `mpirun -n 2 python3 examples/plate.py`.
"""

from mpi4py import MPI

import spon

# a mesh: boundaries by name, refined twice; each rank has a copy and works on its own samples
coarse = spon.read_mesh(spon.find_mesh("plate.geo"), MPI.COMM_WORLD, group=MPI.COMM_SELF)
hierarchy = spon.Hierarchy.uniform(coarse, refinements=2)

# a problem: equations, boundary values and random input, in a file of its own
Plate = spon.load_problem(spon.find_problem("plate.py")).Plate
problem = Plate(hierarchy, temperature={"left": 0.0, "right": 0.0, "circle": 1.0}, flux={"slot": 1.0})

# data: sample i depends on (seed, i) alone
train, test = spon.generate(problem, 250, seed=0).split(200, 50)

# an operator network: its predictions have exact boundary values, trained or not
space = problem.discretisation
processor = spon.Multigrid(space)
model = spon.OperatorNetwork(space, processor, transform="log")
settings = spon.Training(epochs=40, batch_size=4, learning_rate=6e-3)
spon.train(model, train, settings, MPI.COMM_WORLD)

# errors in finite-element norms, and a field for ParaView
errors = spon.evaluate(model, test)
if MPI.COMM_WORLD.rank == 0:
    print(f"relative L2 error {errors['relative_l2']['mean']:.2%}")
    print(f"relative H1 error {errors['relative_h1']['mean']:.2%}")
    print(f"boundary error    {errors['boundary_error']['max']:.1e}")
    spon.write("plate.xdmf", problem.order, {"kappa": test.inputs[0], "u": model.predict(test.inputs[:1])[0]})
