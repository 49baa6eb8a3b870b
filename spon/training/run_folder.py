"""The folder of a run: its configuration, log, best model, and the state from which it goes on."""

from __future__ import annotations

import csv
import json
import pickle
import platform
from pathlib import Path
from typing import Any

import h5py
import numpy
import scipy
import torch

import spon
from spon.data.dataset import Dataset
from spon.errors import SponError
from spon.files import output_folder, replacing
from spon.nn.operator import OperatorNetwork
from spon.training.checkpoint import model_content, write_model
from spon.training.config import RunConfig
from spon.training.distributed import Ranks

__all__ = ["RunFolder"]

COLUMNS = (
    "epoch",
    "step",
    "seconds",
    "learning_rate",
    "loss",
    "validation_l2",
    "validation_h1",
    "best",
)


class RunFolder:
    """A `Store` for a `Trainer`. Every file appears complete or not at all.

    Args:
        path: folder; `prepare` makes it.
        config: of the run.
        dataset: training samples, whose names and physics go into the model.
        ranks: the processes, for versions.json.
    """

    FILES = ("config.toml", "log.csv", "model.pt", "checkpoint.pt", "versions.json")

    def __init__(self, path: str | Path, config: RunConfig, dataset: Dataset, ranks: Ranks) -> None:
        self.path, self._config, self._dataset, self._ranks = Path(path), config, dataset, ranks
        self._written: Any = None
        self._content: dict[str, Any] = {}

    def prepare(self, overwrite: bool) -> None:
        """Make the folder, or see that it belongs to the same run. On one rank.

        Args:
            overwrite: discard another run that is there.

        Raises:
            SponError: another run is there, with what differs; the folder is not writable.
        """
        output_folder(self.path)
        known = self.path / "config.toml"
        if overwrite:
            for path in (*(self.path / name for name in self.FILES), *self.path.glob("certificate*.json")):
                path.unlink(missing_ok=True)
        if known.exists():
            differences = RunConfig.read(known).differences(self._config)
            if differences:
                raise SponError(
                    f"{self.path} has another run: {'; '.join(differences)} (--overwrite discards it)"
                )
            return
        self._config.write(known)
        with replacing(self.path / "versions.json") as temporary:
            temporary.write_text(json.dumps(self._versions(), indent=2) + "\n")

    def read(self) -> dict[str, Any] | None:
        """Return the state, None if there is none.

        Raises:
            SponError: the file is damaged.
        """
        path = self.path / "checkpoint.pt"
        if not path.exists():
            return None
        try:
            found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SponError(f"{path}: not a readable checkpoint: {first}") from error
        return found

    def write(self, state: dict[str, Any], model: OperatorNetwork) -> None:
        """Write log, model and state, in this order: whenever a run is killed, the state has all of them.

        Args:
            state: of the trainer.
            model: whose best parameters are in the state; the last ones are the best where there is
                no validation.
        """
        best, position = state["history"]["best"], state["position"]
        with (
            replacing(self.path / "log.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows({**row, "best": int(row["best"])} for row in state["history"]["rows"])
        which = position["finished"] if best is None else best["epoch"], position["groups"]
        if which != self._written and (best is not None or position["finished"]):
            self._content = self._content or model_content(model, self._dataset, self._config.tables())
            parameters = state["model"] if best is None else best["state"]
            write_model(self.path / "model.pt", {**self._content, "state": parameters})
            self._written = which
        with replacing(self.path / "checkpoint.pt") as temporary:
            torch.save(state, temporary)

    def _versions(self) -> dict[str, Any]:
        modules = {"numpy": numpy, "scipy": scipy, "h5py": h5py, "torch": torch, "spon": spon}
        device = self._config.device
        return {
            **{name: module.__version__ for name, module in modules.items()},
            "python": platform.python_version(),
            "device": torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine(),
            "ranks": self._ranks.size,
            "threads": torch.get_num_threads(),
        }
