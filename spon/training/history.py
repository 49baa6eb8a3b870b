"""What happened in a training run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Best", "History", "Position", "Row"]


@dataclass
class Position:
    """Where a run is.

    Args:
        epoch: epochs that are finished.
        batch: batches of the present epoch that are.
        step: steps of AdamW.
        groups: groups of iterations of L-BFGS that are finished.
        seconds: of the run.
        total: sum of the losses of the samples of the present epoch so far.
        count: number of these samples.
        first: loss of the first step.
        polishing: L-BFGS has begun.
        finished: nothing is left to do.
        failure: why the run ended before its time.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    groups: int = 0
    seconds: float = 0.0
    total: float = 0.0
    count: int = 0
    first: float | None = None
    polishing: bool = False
    finished: bool = False
    failure: str = ""


@dataclass(frozen=True)
class Row:
    """A line of log.csv; errors are means over the validation samples, None without any."""

    epoch: int
    step: int
    seconds: float
    learning_rate: float
    loss: float | None
    validation_l2: float | None
    validation_h1: float | None
    best: bool


@dataclass(frozen=True)
class Best:
    """The model with the smallest validation error in the norm of the loss.

    Args:
        error: that error.
        epoch: after which it was validated.
        errors: norm → mean relative error over the validation samples.
        state: of the network, on the CPU.
    """

    error: float
    epoch: int
    errors: dict[str, float]
    state: dict[str, Any]


@dataclass
class History:
    """What happened.

    Args:
        losses: mean loss of each epoch, then of each group of iterations of L-BFGS.
        seconds: of the run.
        rows: of log.csv.
        best: the model that was kept; None without validation samples.
    """

    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    best: Best | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return plain values and tensors."""
        best = None if self.best is None else dict(vars(self.best))
        return {"losses": self.losses, "rows": [asdict(row) for row in self.rows], "best": best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state back."""
        self.losses = list(state["losses"])
        self.rows = [Row(**row) for row in state["rows"]]
        self.best = None if state["best"] is None else Best(**state["best"])
