r"""The scalar functions of preference losses: f in f(m), m the margin of a pair or the centred score of one sequence.

    Linear        f(m) = -m                                                        likelihood (SFT)
    Logistic      f(m) = -log sigma(scale m - shift)                               Bradley and Terry 1952; DPO 2305.18290
    Squared       f(m) = scale (m - target)^2                                      IPO 2310.12036; INPO 2407.00617
    Hinge         f(m) = max(0, width - scale m)                                   SLiC-HF 2305.10425
    Sigmoid       f(m) = sigma(-scale m) = 1 - sigma(scale m)                      KTO 2402.01306; APO 2408.06266
    ReverseKL     f(m) = KL(Bernoulli(sigma(scale m)) || Bernoulli(1 - noise))     EXO 2402.00856

Each has its value and its slope f'(m) in closed form; the kernel makes losses of the values and score weights of the slopes.
`reach` is sup |f'| where it is finite: a pair is saturated when its slope has fallen under one per cent of it. A quadratic
never saturates. Softplus and log-sigmoid keep both tails exact: f(-1e4) = 1e4 and f(1e4) = 0 without overflow.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from .errors import SpecError


class Link(Protocol):
    """A scalar function of the margin with its slope, both elementwise on tensors of any shape."""

    @property
    def reach(self) -> float:
        """sup |f'|, infinite for a quadratic."""
        ...

    def value(self, margin: Tensor, target: Tensor | None = None) -> Tensor:
        """f(m). `target` replaces the target of a `Squared`, element by element; the others have none."""
        ...

    def slope(self, margin: Tensor, target: Tensor | None = None) -> Tensor:
        """f'(m), in closed form."""
        ...


@dataclass(frozen=True)
class Linear:
    """f(m) = -m: the negative log-likelihood when the score is a log-probability."""

    reach: float = 1.0

    def value(self, margin: Tensor, target: Tensor | None = None) -> Tensor:
        """-m."""
        return -margin

    def slope(self, margin: Tensor, target: Tensor | None = None) -> Tensor:
        """-1 everywhere."""
        return -torch.ones_like(margin)


@dataclass(frozen=True)
class Logistic:
    """f(m) = -log sigma(scale m - shift). A negative scale is the mirror image f(-m).

    scale: finite and not zero, DPO's beta. shift: finite, SimPO's gamma.
    Raises SpecError when a number is outside its range.
    """

    scale: float
    shift: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale) or self.scale == 0:
            raise SpecError(f"a logistic link of scale {self.scale!r} sees no margin; give a finite scale other than 0")
        if not math.isfinite(self.shift):
            raise SpecError(f"shift {self.shift!r} of a logistic link is not a finite number")

    @property
    def reach(self) -> float:
        """|scale|, as the margin goes to minus infinity."""
        return abs(self.scale)

    def value(self, margin: Tensor, target: Tensor | None = None) -> Tensor:
        """-log sigma(scale m - shift)."""
        return -functional.logsigmoid(self.scale * margin - self.shift)

    def slope(self, margin: Tensor, target: Tensor | None = None) -> Tensor:
        """-scale sigma(shift - scale m)."""
        return -self.scale * torch.sigmoid(self.shift - self.scale * margin)


@dataclass(frozen=True)
class Squared:
    """f(m) = scale (m - target)^2.

    target: finite, IPO's 1/(2 tau); a target an element, where the objective regresses on rewards or win rates, replaces it.
    scale: positive and finite.
    Raises SpecError when a number is outside its range.
    """

    target: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.target):
            raise SpecError(f"target {self.target!r} of a squared link is not a finite margin")
        require_positive(scale=self.scale)

    @property
    def reach(self) -> float:
        """Infinite: a quadratic pulls the harder the further it is from its target."""
        return math.inf

    def value(self, margin: Tensor, target: Tensor | None = None) -> Tensor:
        """scale (m - target)^2."""
        return self.scale * (margin - (self.target if target is None else target)).square()

    def slope(self, margin: Tensor, target: Tensor | None = None) -> Tensor:
        """2 scale (m - target)."""
        return 2 * self.scale * (margin - (self.target if target is None else target))


@dataclass(frozen=True)
class Hinge:
    """f(m) = max(0, width - scale m), with slope 0 at the kink, as autograd has it.

    scale, width: positive and finite.
    Raises SpecError when a number is outside its range.
    """

    scale: float = 1.0
    width: float = 1.0

    def __post_init__(self) -> None:
        require_positive(scale=self.scale, width=self.width)

    @property
    def reach(self) -> float:
        """The scale."""
        return self.scale

    def value(self, margin: Tensor, target: Tensor | None = None) -> Tensor:
        """max(0, width - scale m)."""
        return torch.relu(self.width - self.scale * margin)

    def slope(self, margin: Tensor, target: Tensor | None = None) -> Tensor:
        """-scale before the kink, 0 from the kink on."""
        return -self.scale * (self.scale * margin < self.width).to(margin.dtype)


@dataclass(frozen=True)
class Sigmoid:
    """f(m) = 1 - sigma(scale m), in the form sigma(-scale m) that keeps its digits for large margins.

    scale: positive and finite, KTO's beta.
    Raises SpecError when the scale is outside its range.
    """

    scale: float

    def __post_init__(self) -> None:
        require_positive(scale=self.scale)

    @property
    def reach(self) -> float:
        """A quarter of the scale, at m = 0: this link is flat on both sides."""
        return self.scale / 4

    def value(self, margin: Tensor, target: Tensor | None = None) -> Tensor:
        """sigma(-scale m)."""
        return torch.sigmoid(-self.scale * margin)

    def slope(self, margin: Tensor, target: Tensor | None = None) -> Tensor:
        """-scale sigma(scale m) sigma(-scale m)."""
        return -self.scale * torch.sigmoid(self.scale * margin) * torch.sigmoid(-self.scale * margin)


@dataclass(frozen=True)
class ReverseKL:
    """f(m) = KL(Bernoulli(sigma(scale m)) || Bernoulli(1 - noise)): least at m = logit(1 - noise) / scale, flat far away on
    either side.

    scale: positive and finite. noise: in (0, 1/2); at 0 the divergence is infinite for every finite margin.
    Raises SpecError when a number is outside its range.
    """

    scale: float
    noise: float

    def __post_init__(self) -> None:
        require_positive(scale=self.scale)
        if not 0 < self.noise < 0.5:
            raise SpecError(f"noise {self.noise!r} leaves EXO's target without both outcomes; give a number in (0, 1/2)")

    @property
    def reach(self) -> float:
        """scale max_x sigma(x) sigma(-x) |x - logit(1 - noise)|, to the width of a fine grid."""
        odds = math.log1p(-self.noise) - math.log(self.noise)
        grid = torch.linspace(-20.0, 20.0 + odds, 20_001, dtype=torch.float64)
        return float(self.scale * (torch.sigmoid(grid) * torch.sigmoid(-grid) * (grid - odds).abs()).max())

    def value(self, margin: Tensor, target: Tensor | None = None) -> Tensor:
        """sigma(x) (log sigma(x) - log(1 - noise)) + sigma(-x) (log sigma(-x) - log noise), x = scale m."""
        x = self.scale * margin
        win = torch.sigmoid(x) * (functional.logsigmoid(x) - math.log1p(-self.noise))
        return win + torch.sigmoid(-x) * (functional.logsigmoid(-x) - math.log(self.noise))

    def slope(self, margin: Tensor, target: Tensor | None = None) -> Tensor:
        """scale sigma(x) sigma(-x) (x - logit(1 - noise)), x = scale m."""
        x = self.scale * margin
        odds = math.log1p(-self.noise) - math.log(self.noise)
        return self.scale * torch.sigmoid(x) * torch.sigmoid(-x) * (x - odds)


def require_positive(**numbers: float) -> None:
    """Raises SpecError, naming the first of the numbers that is not positive and finite."""
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 < number < math.inf:
            raise SpecError(f"{name} {number!r} is not a positive finite number")
