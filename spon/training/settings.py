"""Settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass

from spon.errors import SponError
from spon.nn.norms import NORMS
from spon.training.physics_loss import PHYSICS_LOSSES

__all__ = ["CLOCKS", "PRECISIONS", "SCHEDULES", "Training"]

SCHEDULES = ("cosine", "linear")
CLOCKS = ("wall", "process")
PRECISIONS = ("full", "bfloat16")


@dataclass(frozen=True)
class Training:
    """Settings of a training run.

    Args:
        epochs: passes over the training samples; without effect if `max_seconds` is given.
        max_seconds: end of the run; the schedule follows the time and ends with it. A run of a fixed number
            of epochs can be repeated to the last bit, one of fixed time cannot.
        clock: that measures `max_seconds`: "wall", or "process", the processor time of the first rank, for
            comparisons on machines that are shared.
        batch_size: samples in a step, over all ranks.
        microbatch: samples that a rank takes at a time; a step occupies at most
            batch_size / microbatch ranks.
        loss: relative error that is minimised, "h1", "l2", or "energy" if the discretisation has one.
        physics_loss: what the equations say of a prediction, "residual" or "potential" (`PhysicsLoss`), or
            "none".
        label_weight: w in [0, 1] of label_weight · loss + (1 − label_weight) · physics_loss, which is
            minimised, and by which the best model is chosen. 1: labels alone; 0: none, outputs of training
            samples are not read then, and those of validation samples measured alone.
        learning_rate: the largest.
        schedule: after a linear warm-up the learning rate falls to zero, "cosine" or "linear".
        warmup: share of the run in which the learning rate rises, in [0, 1).
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        ema: decay of the exponential moving average of the weights, in [0, 1), which is what is validated and
            kept; 0: the weights themselves.
        precision: "full", or "bfloat16" for dense products; sparse ones stay in float32.
        compile: compile the processor with torch.compile.
        lbfgs: iterations of L-BFGS at the end, with strong Wolfe line searches; with
            `max_seconds` they have the last fifth of the time.
        lbfgs_samples: training samples that every ten iterations use; None: all.
        validate_every: epochs between validations.
        checkpoint_seconds: time between checkpoints.
        seed: of the order of the samples and of what is random in a processor.

    Raises:
        SponError: a value outside its range.
    """

    epochs: int = 40
    max_seconds: float | None = None
    clock: str = "wall"
    batch_size: int = 4
    microbatch: int = 2
    loss: str = "h1"
    physics_loss: str = "none"
    label_weight: float = 1.0
    learning_rate: float = 6e-3
    schedule: str = "cosine"
    warmup: float = 0.05
    weight_decay: float = 1e-4
    clip: float = 1.0
    ema: float = 0.0
    precision: str = "full"
    compile: bool = False
    lbfgs: int = 0
    lbfgs_samples: int | None = None
    validate_every: int = 1
    checkpoint_seconds: float = 60.0
    seed: int = 0

    def __post_init__(self) -> None:
        positive = ("epochs", "batch_size", "microbatch", "learning_rate", "clip", "validate_every")
        for name in (*positive, "checkpoint_seconds", "max_seconds", "lbfgs_samples"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise SponError(f"{name} = {value}; allowed: > 0")
        for name in ("lbfgs", "weight_decay", "seed"):
            if not getattr(self, name) >= 0:
                raise SponError(f"{name} = {getattr(self, name)}; allowed: >= 0")
        for name in ("warmup", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise SponError(f"{name} = {getattr(self, name)}; allowed: 0 <= {name} < 1")
        for name, allowed in (
            ("loss", NORMS),
            ("physics_loss", PHYSICS_LOSSES),
            ("schedule", SCHEDULES),
            ("clock", CLOCKS),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in allowed:
                raise SponError(f"{name} '{getattr(self, name)}'; allowed: {', '.join(allowed)}")
        if not 0 <= self.label_weight <= 1:
            raise SponError(f"label_weight = {self.label_weight}; allowed: 0 <= label_weight <= 1")
        if (self.physics_loss == "none") != (self.label_weight == 1):
            raise SponError(
                f"physics_loss '{self.physics_loss}' with label_weight = {self.label_weight}; allowed: "
                "'none' with 1, 'residual' or 'potential' with less"
            )
