r"""The pendulum that has to swing up and stand, vectorised, with its mass m and its length l for parameters.

    q'' = 3 g / (2 l) sin q + 3 u / (m l^2),        cost q^2 + 0.1 q'^2 + 0.001 u^2 a step,        q = 0 upright,

semi-implicit Euler steps of 0.05 s, |q'| <= 8, torques u of -2, 0 or 2 N m, which lift a light pendulum at once and a heavy one
only after some swings. At m = l = 1 it is gymnasium's Pendulum-v1, whose equations these are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

_GRAVITY, _STEP, _FASTEST, _TORQUE = 10.0, 0.05, 8.0, 2.0


@dataclass(frozen=True)
class Pendulum:
    """The swing-up. States are cos q, sin q and q'; actions 0, 1, 2 are the torques -2, 0, 2. It never ends before the horizon.

    horizon: steps of an episode. discount: in (0, 1), of learning.
    low, high, reference: (2,), mass in kg and length in m.
    """

    horizon: int = 200
    discount: float = 0.98
    low: Tensor = field(default_factory=lambda: torch.tensor([0.5, 0.5]))
    high: Tensor = field(default_factory=lambda: torch.tensor([2.0, 1.5]))
    reference: Tensor = field(default_factory=lambda: torch.tensor([1.0, 1.0]))
    scale: Tensor = field(default_factory=lambda: torch.tensor([1.0, 1.0, _FASTEST]))
    state_size: int = 3
    n_actions: int = 3

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        """First states, (n, 3): any angle, speeds in [-1, 1]."""
        angle, speed = (2 * torch.rand(2, n, generator=generator) - 1).unbind(0)
        return self.state(torch.pi * angle, speed)

    @staticmethod
    def state(angle_N: Tensor, speed_N: Tensor) -> Tensor:
        """States (n, 3) of angles and speeds (n,)."""
        return torch.stack((torch.cos(angle_N), torch.sin(angle_N), speed_N), dim=1)

    def step(self, state_NS: Tensor, action_N: Tensor, parameters_NP: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Next states (n, 3), rewards (n,), and that the process goes on, bool (n,); parameters (n, 2)."""
        cosine, sine, speed = state_NS.unbind(1)
        mass, length = parameters_NP.unbind(1)
        angle, torque = torch.atan2(sine, cosine), _TORQUE * (action_N - 1)
        reward = -(angle**2 + 0.1 * speed**2 + 0.001 * torque**2)
        pull = 1.5 * _GRAVITY / length * sine + 3.0 * torque / (mass * length**2)
        speed = (speed + _STEP * pull).clamp(-_FASTEST, _FASTEST)
        return self.state(angle + _STEP * speed, speed), reward, torch.zeros(len(reward), dtype=torch.bool)
