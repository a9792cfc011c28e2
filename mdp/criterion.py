r"""What a decision maker wants from a model.

Over trajectories (s_0, a_0, r_0, s_1, ...) under a policy, with terminal states worth their terminal value on arrival:

    Discounted(g)        E sum_t g^t r_t                          0 <= g < 1
    FiniteHorizon(H, g)  E sum_{t<H} g^t r_t                      0 <= g <= 1
    TotalReward()        E sum_t r_t (+ the terminal value)
    AverageReward()      lim 1/K E sum_{t<K} r_t

Meaning of floating-point rows. For `Discounted` and `FiniteHorizon` the stored floats, taken as exact numbers, ARE the
model: a row may sum to 1 + 1e-16 and the certificates hold for that row. Without discounting such a row has no meaning
(inside a closed loop, a sum of 1 + 1e-16 makes every value infinite), so for `TotalReward` and `AverageReward` the stored
floats, taken as exact numbers, are weights, and the transition probabilities are weight over row sum, exactly.

Puterman, Markov Decision Processes, Wiley 2005, chapters 4 to 9.
"""

from dataclasses import dataclass

from .errors import ModelError


@dataclass(frozen=True)
class Discounted:
    """Expected discounted reward.

    discount: in [0, 1).
    minimize: the rewards are costs, to be made small.
    Raises ModelError when the discount is outside [0, 1).
    """

    discount: float
    minimize: bool = False

    def __post_init__(self) -> None:
        _require_discount(self.discount)
        if self.discount == 1:
            raise ModelError("discount 1 has no discounted value; use criterion=TotalReward() or AverageReward()")
        object.__setattr__(self, "discount", float(self.discount))


@dataclass(frozen=True)
class FiniteHorizon:
    """Expected reward of the first `horizon` decisions.

    horizon: number of decisions, at least 0.
    discount: in [0, 1].
    minimize: the rewards are costs, to be made small.
    Raises ModelError when the horizon is not a whole number >= 0 or the discount is outside [0, 1].
    """

    horizon: int
    discount: float = 1.0
    minimize: bool = False

    def __post_init__(self) -> None:
        _require_discount(self.discount)
        if isinstance(self.horizon, bool) or int(self.horizon) != self.horizon or self.horizon < 0:
            raise ModelError(f"horizon {self.horizon!r} is not a number of decisions; give an integer >= 0")
        object.__setattr__(self, "discount", float(self.discount))
        object.__setattr__(self, "horizon", int(self.horizon))


@dataclass(frozen=True)
class TotalReward:
    """Expected undiscounted reward until a terminal state, if ever, is reached. Reachability is reward 0 and terminal value 1.

    minimize: the rewards are costs, to be made small.
    """

    minimize: bool = False


@dataclass(frozen=True)
class AverageReward:
    """Long-run average reward a step.

    minimize: the rewards are costs, to be made small.
    """

    minimize: bool = False


Criterion = Discounted | FiniteHorizon | TotalReward | AverageReward


def _require_discount(discount: float) -> None:
    if isinstance(discount, bool) or not isinstance(discount, (int, float)) or not 0 <= discount <= 1:
        raise ModelError(f"discount {discount!r} is not a number in [0, 1]; give the one-step discount factor")
