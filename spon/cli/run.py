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

__all__ = ["Names", "Run"]


@dataclass(frozen=True)
class Names:
    """What a data set says of the functions in it.

    Args:
        output: name.
        units: of inputs and output by name.
        boundary_data: input → boundary where the output takes its values.
    """

    output: str
    units: dict[str, str]
    boundary_data: dict[str, str]


@dataclass(frozen=True)
class Run:
    """A run, of which only the model has to be there.

    Args:
        folder: of the files.
        model_file: in it.
    """

    folder: Path
    model_file: Path

    @classmethod
    def find(cls, name: str) -> Run:
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
        listed = table.get("path", []) if isinstance(table, dict) else []
        names = [listed] if isinstance(listed, str) else list(listed)  # one for each mesh
        if not names:
            return None
        if len(names) > 1:
            raise SponError(
                f"{self.folder} was trained on {len(names)} data sets: {', '.join(names)}; "
                "allowed: --data with one of them"
            )
        (name,) = names
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
            SponError: unreadable, or of another discretisation.
        """
        from spon.training.checkpoint import load_model

        return load_model(self.model_file, discretisation, device)

    def for_prediction(self, data: str | None, device: Any) -> tuple[Any, Names]:
        """Return the model, and the names that it goes by; from its own file where that has all of it.

        Args:
            data: data set in place of what the file of the model has.
            device: of torch.

        Raises:
            SponError: what is missing.
        """
        from spon.data.dataset import Dataset
        from spon.training.checkpoint import read_model

        if data is None:
            known = read_model(self.model_file)["data"]
            if known is not None:
                names = Names(known["output_name"], known["units"], known["boundary_data"])
                return self.model(None, device), names
        path = self.data_file(data)
        if path is None:
            raise SponError(
                f"{self.model_file} does not name its inputs and boundary data; allowed: --data FILE"
            )
        dataset = Dataset.load(path)
        names = Names(dataset.output_name, dict(dataset.units), dict(dataset.boundary_data))
        return self.model(dataset.discretisation, device), names

    def physics(self, data: str | None) -> Any:
        """Return the equations in the file of the model, or else those of the data set; None without.

        Args:
            data: data set in place of the one that `config.toml` names.

        Raises:
            SponError: damaged files.
        """
        from spon.data.dataset import Dataset
        from spon.training.checkpoint import load_physics, read_model

        if data is None and read_model(self.model_file)["data"] is not None:
            return load_physics(self.model_file)
        path = self.data_file(data)
        return None if path is None else Dataset.load(path).physics

    def input_range(self, model: Any) -> Any:
        """Return the `InputRange` of the training inputs, None where it is unknown.

        It is in `inputs.npz`, or found from the data set that `config.toml` names.

        Args:
            model: of the run.

        Raises:
            SponError: damaged, or of another discretisation.
        """
        from spon.data.dataset import Dataset
        from spon.nn.input_range import InputRange

        path = self.folder / "inputs.npz"
        if path.is_file():
            known = InputRange.load(path)
            model.discretisation.require(known.fingerprint, str(path))
            return known
        try:
            data = self.data_file(None)
        except SponError:  # the data set has gone; predictions do not need it
            data = None
        if data is None:
            return None
        train = Dataset.load(data).parts()[0]
        return InputRange.of(model, train) if len(train) >= 3 else None
