"""The folder that `spon train` writes: settings, learning curves, model."""

from __future__ import annotations

import csv
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spon.errors import MissingDependencyError, SponError

__all__ = ["RunFolder"]


@dataclass(frozen=True)
class RunFolder:
    """A run, of which only the model has to be there.

    Args:
        folder: of the files.
        model_file: in it.
    """

    folder: Path
    model_file: Path

    @classmethod
    def find(cls, name: str) -> RunFolder:
        """Return the run of a folder, or of its model file.

        Raises:
            SponError: no such folder, or no model in it.
        """
        path = Path(name)
        if path.is_file():
            return cls(path.parent, path)
        if not path.is_dir():
            raise SponError(f"no such run: {name}; allowed: a folder that spon train made, or its model.pt")
        if not (path / "model.pt").is_file():
            raise SponError(f"{name}: no model.pt; allowed: a folder where spon train has saved a model")
        return cls(path, path / "model.pt")

    @property
    def settings(self) -> str:
        """The text of `config.toml`; empty where there is none."""
        path = self.folder / "config.toml"
        try:
            return path.read_text() if path.is_file() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise SponError(f"{path}: not readable: {error}") from error

    def data_file(self, given: str | None) -> Path | None:
        """Return the data set: the one given, or the one trained on as `config.toml` names it, if any.

        Raises:
            SponError: `config.toml` is damaged, or names a file that is not there.
        """
        if given is not None:
            return Path(given)
        table = self._table().get("data", {})
        name = table.get("path") if isinstance(table, dict) else table
        if not name:
            return None
        found = next((p for p in (Path(name), self.folder / name) if p.is_file()), None)
        if found is None:
            raise SponError(f"{self.folder / 'config.toml'}: no such data set: {name}; allowed: --data FILE")
        return found

    def _table(self) -> dict[str, Any]:
        text = self.settings
        if not text:
            return {}
        toml_module = "tomllib" if sys.version_info >= (3, 11) else "tomli"
        try:
            toml: Any = importlib.import_module(toml_module)
        except ImportError as error:
            raise MissingDependencyError(
                f"reading config.toml needs tomli ({error}): pip install tomli"
            ) from error
        try:
            return dict(toml.loads(text))
        except toml.TOMLDecodeError as error:
            raise SponError(f"{self.folder / 'config.toml'}: not readable: {error}") from error

    def history(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return the columns of `log.csv` that are numbers, NaN where a cell is empty; {} without the file.

        Raises:
            SponError: unreadable content.
        """
        path = self.folder / "log.csv"
        if not path.is_file():
            return {}
        try:
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise SponError(f"{path}: not readable: {error}") from error
        out: dict[str, npt.NDArray[np.float64]] = {}
        for name in rows[0] if rows else ():
            try:
                out[name] = np.array([float(row[name] or "nan") for row in rows])
            except (TypeError, ValueError):  # a column of words, or a row that was cut off
                continue
        return out

    def model(self, discretisation: Any, device: Any) -> Any:
        """Return the model on a device.

        Args:
            discretisation: that it has to be of; None: the one in its file.
            device: of torch.

        Raises:
            SponError: unreadable, of another discretisation, or without one.
        """
        from spon.training.checkpoint import load_model

        load: Any = load_model
        return load(self.model_file, discretisation, device)
