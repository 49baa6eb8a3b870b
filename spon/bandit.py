"""Choice among alternatives whose cost is known only after they are tried."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from spon.errors import SponError

__all__ = ["TsallisInf"]

Floats = npt.NDArray[np.float64]


class TsallisInf:
    """The Tsallis-INF bandit: nearly optimal for steady losses and for those of an adversary alike.

    With k_i the estimated total loss of arm i, p_i = 4 (η (k_i − x))⁻², η = 2/√t, and x < min k such that the
    p_i sum to 1; a loss ℓ of the drawn arm adds ℓ / p to its k. J. Zimmert, Y. Seldin, "Tsallis-INF: an
    optimal algorithm for stochastic and adversarial bandits", JMLR 22 (2021), algorithm 1 with α = 1/2: the
    expected regret after n rounds is at most 4 √(arms · n) + 1 against any sequence of losses, and grows like
    log n where one arm is always better on average.

    Two bandits of one seed that see the same losses draw the same arms; ranks that agree on losses need
    not communicate.

    Args:
        arms: number of arms.
        rng: draws the arms.

    Raises:
        SponError: no arms.
    """

    def __init__(self, arms: int, rng: np.random.Generator) -> None:
        if arms < 1:
            raise SponError(f"a bandit of {arms} arms; allowed: at least 1")
        self._losses: Floats = np.zeros(arms)
        self._rounds, self._rng = 0, rng

    @property
    def rounds(self) -> int:
        """Number of losses seen."""
        return self._rounds

    def probabilities(
        self, allowed: npt.NDArray[np.bool_] | None = None, expected: Floats | None = None
    ) -> Floats:
        """Return the distribution of the next arm, (arms,).

        Args:
            allowed: (arms,) False for arms to leave out in this round; default: all are allowed.
            expected: (arms,) ≥ 0, losses that are counted as if seen already, anew in every round, so that
                what is expected may change (optimistic: C.-Y. Wei, H. Luo, COLT 2018); default: 0.

        Raises:
            SponError: wrong shape, or no arm is allowed.
        """
        out = np.zeros(len(self._losses))
        mask = np.ones(len(out), dtype=bool) if allowed is None else np.asarray(allowed, dtype=bool)
        if mask.shape != out.shape or not mask.any():
            raise SponError(
                f"{mask.sum()} arms allowed by shape {mask.shape}; allowed: ({len(out)},), at least 1"
            )
        losses = self._losses if expected is None else self._losses + expected
        out[mask] = _distribution(losses[mask], 2.0 / np.sqrt(self._rounds + 1.0))
        return out

    def choose(self, allowed: npt.NDArray[np.bool_] | None = None, expected: Floats | None = None) -> int:
        """Draw an arm.

        Args:
            allowed: as in `probabilities`.
            expected: as in `probabilities`.

        Returns:
            Its number.
        """
        return int(self._rng.choice(len(self._losses), p=self.probabilities(allowed, expected)))

    def update(self, arm: int, loss: float, probability: float, predicted: Floats | None = None) -> None:
        """Take note of what a drawn arm has cost.

        With predictions m the estimate is m_i, plus (ℓ − m) / p for the drawn arm: right on average whatever
        they are, and with little variance where they are good (C.-Y. Wei, H. Luo, "More adaptive algorithms
        for adversarial bandits", COLT 2018).

        Args:
            arm: its number.
            loss: in [0, 1].
            probability: with which it was drawn.
            predicted: (arms,) losses in [0, 1] that were expected before this one was seen; default: 0.

        Raises:
            SponError: a value outside these ranges.
        """
        if not (0 <= arm < len(self._losses) and 0.0 <= loss <= 1.0 and 0.0 < probability <= 1.0):
            raise SponError(
                f"arm {arm}, loss {loss}, probability {probability}; "
                f"allowed: 0 to {len(self._losses) - 1}, 0 to 1, above 0 to 1"
            )
        if predicted is not None:
            self._losses += predicted
            loss -= predicted[arm]
        self._losses[arm] += loss / probability
        self._rounds += 1

    def state(self) -> dict[str, Any]:
        """Return all that the next draws depend on, as JSON can hold it."""
        return {
            "losses": self._losses.tolist(),
            "rounds": self._rounds,
            "rng": self._rng.bit_generator.state,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Args:
            state: from `state` of a bandit with as many arms.

        Raises:
            SponError: another number of arms.
        """
        if len(state["losses"]) != len(self._losses):
            raise SponError(f"a state of {len(state['losses'])} arms; this bandit has {len(self._losses)}")
        self._losses, self._rounds = np.array(state["losses"], dtype=np.float64), int(state["rounds"])
        self._rng.bit_generator.state = state["rng"]


def _distribution(losses: Floats, rate: float) -> Floats:
    # Σ p is convex and increasing in x, and at least 1 at the start: Newton comes down to the root
    x = losses.min() - 2.0 / rate
    for _ in range(100):
        weights = 4.0 / (rate * (losses - x)) ** 2
        excess = weights.sum() - 1.0
        if excess <= 1e-13:
            break
        x -= excess / (rate * weights**1.5).sum()
    out: Floats = weights / weights.sum()
    return out
