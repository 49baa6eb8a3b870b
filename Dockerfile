# DOLFINx's own image (real PETSc, MPICH, gmsh) with torch and spon.
#
#   docker build -t spon .
#   docker run --rm -it -v "$PWD":/data -w /data spon demo     # output here
#   docker run --rm -it --entrypoint bash spon                 # a shell; mpirun -n 3 spon …
#
# --shm-size=1g where MPI or torch ask for more shared memory than Docker's 64 MB.
FROM dolfinx/dolfinx:v0.9.0

# torch for the CPU: the default wheels bring 3 GB of CUDA libraries. For a GPU,
# docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu124
# and docker run --gpus all.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" torch
RUN pip install --no-cache-dir scipy matplotlib meshio h5py tqdm pytest hypothesis mypy 'ruff==0.17.*'

# --no-deps: what spon needs is here, and pip knows nothing of the image's DOLFINx.
COPY . /spon
RUN pip install --no-cache-dir --no-deps /spon

ENV OMP_NUM_THREADS=1
WORKDIR /spon
ENTRYPOINT ["spon"]
CMD ["--help"]
