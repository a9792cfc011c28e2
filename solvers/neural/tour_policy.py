r"""Round trips by a network that was shown short ones: on tails, on prefixes, and by a pointer into the whole.

A policy has visited the first k places of a trip and names the next one. What it sees of them is what it is named after:

    TailNetwork       the tail instance (u, v, R): where it stands, where it must end, and the places left, nothing else. A set
                      of |R| + 2 points, two of them marked. By the bisimulation of `banach.mdp.construction` this is enough.
    PrefixNetwork     the same network on the whole history: all n places, those visited marked with the share of the trip at
                      which they were
    PointerNetwork    the n places encoded once; each step, a query made of their mean, of u and of v points at one of those
                      left, by a glimpse and tanh-bounded products

All are transformers without positions, residuals scaled by a number that starts at 0 (no normalisation), products over
sqrt(size). Permuting the places left permutes the scores.

Training imitates: a short trip, begun anywhere, either way round, in one of the eight positions of the square, with any share
of it already made, has a next place; the loss is -log of its probability. What is left of a shortest trip is a shortest way
through its tail, so that every cut of a trip teaches. A trip is then made greedily, by a beam, or greedily from the eight
positions, the shortest kept. `nearest` keeps the r places left that are nearest to u, so that a policy of tails meets
instances no larger than it was trained on.

Measured (benchmarks/TOURS.md, three seeds, trained on 20 places): greedy trips of tails are 3.3, 9.1 and 16 % longer than short
ones on 20, 50 and 100 places, those of prefixes 3.2, 9.9 and 23 %, of the pointer 7.3, 17 and 28 %, the nearest neighbour 16,
23 and 23 %; at 200 no policy beats the nearest neighbour greedily.

Drakulic, Michel, Mai, Sors and Andreoli, NeurIPS 2023 (arXiv:2301.03313), tails, the network and its training; Kool, van Hoof
and Welling, ICLR 2019 (arXiv:1803.08475), the pointer; Bachlechner et al., UAI 2021 (arXiv:2003.04887), residuals from 0.

Shape suffixes: B trips, N places, R places left, D width, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from ..errors import SolveError


class TourNetwork(Protocol):
    """What makes and trains trips asks of a network."""

    def memory(self, point_BN2: Tensor) -> Any:
        """What may be computed once for an instance."""
        ...

    def scores(self, point_BN2: Tensor, k: int, memory: Any) -> Tensor:
        """Scores of the places left, (b, n - k), of trips whose points stand in the order of the visit, k of them visited."""
        ...


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        query, key, value = (y.unflatten(2, (self.heads, -1)).transpose(1, 2) for y in self.inputs(x_BND).chunk(3, dim=2))
        return self.output(scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = _Attention(width, heads)
        self.feed = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.scale = nn.Parameter(torch.zeros(2))

    def forward(self, x_BND: Tensor) -> Tensor:
        x_BND = x_BND + self.scale[0] * self.attention(x_BND)
        return x_BND + self.scale[1] * self.feed(x_BND)


@dataclass(frozen=True)
class TourShape:
    """Sizes of a network. width: a multiple of heads. Raises SolveError where it is not, or a number is not positive."""

    width: int = 64
    layers: int = 3
    heads: int = 4
    hidden: int = 256

    def __post_init__(self) -> None:
        if min(self.width, self.layers, self.heads, self.hidden) < 1 or self.width % self.heads:
            raise SolveError(f"{self}: sizes must be positive and the width a multiple of the heads")

    def body(self) -> nn.Sequential:
        """The layers."""
        return nn.Sequential(*(_Layer(self.width, self.heads, self.hidden) for _ in range(self.layers)))


class _SetNetwork(nn.Module):
    """Points with features, two of them marked as where the trip stands and where it ends, scored by one transformer."""

    def __init__(self, shape: TourShape, features: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(features, shape.width)
        self.ends = nn.Parameter(torch.randn(2, shape.width) / math.sqrt(shape.width))
        self.body = shape.body()
        self.head = nn.Linear(shape.width, 1)

    def memory(self, point_BN2: Tensor) -> None:
        """Nothing: each step is seen anew."""
        del point_BN2

    def marked(self, feature_BNF: Tensor, here: int, end: int) -> Tensor:
        """Scores of all points, (b, n), of features (b, n, f); here, end: the marked ones, which may be one."""
        x_BND = self.embedding(feature_BNF)
        end_ND = torch.zeros(x_BND.shape[1:], dtype=x_BND.dtype).index_add(0, torch.tensor([here, end]), self.ends)
        return self.head(self.body(x_BND + end_ND))[..., 0]


class TailNetwork(_SetNetwork):
    """Sees the tail instance only."""

    def __init__(self, shape: TourShape) -> None:
        super().__init__(shape, 2)

    def scores(self, point_BN2: Tensor, k: int, memory: None = None) -> Tensor:
        """See `TourNetwork`."""
        del memory
        return self.marked(torch.cat([point_BN2[:, [k - 1, 0]], point_BN2[:, k:]], dim=1), 0, 1)[:, 2:]


class PrefixNetwork(_SetNetwork):
    """Sees the whole history: the places visited, each marked with the share of the trip at which it was."""

    def __init__(self, shape: TourShape) -> None:
        super().__init__(shape, 4)

    def scores(self, point_BN2: Tensor, k: int, memory: None = None) -> Tensor:
        """See `TourNetwork`."""
        del memory
        n = point_BN2.shape[1]
        mark_N2 = torch.zeros(n, 2, dtype=point_BN2.dtype)
        mark_N2[:k, 0], mark_N2[:k, 1] = 1.0, torch.arange(k) / n
        return self.marked(torch.cat([point_BN2, mark_N2.expand(len(point_BN2), n, 2)], dim=2), k - 1, 0)[:, k:]


class PointerNetwork(nn.Module):
    """Encodes the places once and points at the next one: the autoregressive policy of Kool, van Hoof and Welling."""

    def __init__(self, shape: TourShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.embedding = nn.Linear(2, shape.width)
        self.body = shape.body()
        self.keys = nn.Linear(shape.width, 3 * shape.width, bias=False)
        self.query = nn.Linear(3 * shape.width, shape.width, bias=False)
        self.glimpse = nn.Linear(shape.width, shape.width, bias=False)

    def memory(self, point_BN2: Tensor) -> Tensor:
        """The encoded places, (b, n, width)."""
        return self.body(self.embedding(point_BN2))

    def scores(self, point_BN2: Tensor, k: int, memory: Tensor) -> Tensor:
        """See `TourNetwork`. memory: of the points in the order of the visit."""
        del point_BN2
        context_BD = self.query(torch.cat([memory.mean(dim=1), memory[:, k - 1], memory[:, 0]], dim=1))
        key, value, target_BRD = self.keys(memory[:, k:]).chunk(3, dim=2)
        query, key, value = (y.unflatten(2, (self.heads, -1)).transpose(1, 2) for y in (context_BD[:, None], key, value))
        found_BD = self.glimpse(scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(1))
        return 10 * torch.tanh((target_BRD @ found_BD[:, :, None])[..., 0] / math.sqrt(found_BD.shape[1]))


NETWORKS: dict[str, Callable[[TourShape], Any]] = {"tail": TailNetwork, "prefix": PrefixNetwork, "pointer": PointerNetwork}


@dataclass(frozen=True)
class TourPolicy:
    """A network that makes trips. nearest: at most so many of the places left are looked at, 0 for all."""

    network: Any
    nearest: int = 0

    @torch.no_grad()
    def tours(self, points: np.ndarray) -> np.ndarray:
        """Orders of greedy trips, int64 (b, n), each from 0. points: (b, n, 2), in the unit square.

        Raises SolveError for points of another shape, outside the square or not finite, and where `nearest` is set although
        the network is not one of tails.
        """
        return self._greedy(self._checked(points)).numpy()

    @torch.no_grad()
    def positioned_tours(self, points: np.ndarray) -> np.ndarray:
        """The shortest of eight greedy trips, int64 (b, n), in the eight positions of the square: never longer than `tours`.

        points: (b, n, 2). Raises SolveError where `tours` does.
        """
        point_BN2 = self._checked(points)
        order_XBN = torch.stack([self._greedy(_positioned(point_BN2, position)) for position in range(8)])
        length_XB = torch.stack([lengths(point_BN2, order_BN) for order_BN in order_XBN])
        return order_XBN[length_XB.argmin(dim=0), torch.arange(len(point_BN2))].numpy()

    @torch.no_grad()
    def beam_tour(self, points: np.ndarray, width: int) -> np.ndarray:
        """The shortest of the trips that a beam of this width ends with, int64 (n,). points: (n, 2). width: >= 1.

        Beams of one tail (place and places left) are the same from there on; the shorter way to it is kept, so that with enough
        width the beam is dynamic programming. Raises what `tours` raises, and SolveError for a width < 1.
        """
        if width < 1:
            raise SolveError(f"a beam of width {width}; it must be >= 1")
        point_BN2 = self._checked(np.asarray(points)[None])
        n = point_BN2.shape[1]
        order_WN, chance_W, way_W = torch.arange(n)[None], torch.zeros(1), torch.zeros(1)
        for k in range(1, n):
            seen_WN2 = point_BN2[0, order_WN]
            scores_WR, left_WR = self._scores(seen_WN2, k, self.network.memory(seen_WN2))
            total_WR = chance_W[:, None] + scores_WR.log_softmax(dim=1)
            onward_WR = way_W[:, None] + _distances(seen_WN2[:, k - 1 : k], seen_WN2)[:, 0].gather(1, left_WR)
            kept: dict[tuple[int, frozenset[int]], tuple[float, int, int]] = {}
            for flat in total_WR.flatten().argsort(descending=True, stable=True).tolist():
                beam, choice = divmod(flat, total_WR.shape[1])
                place = int(order_WN[beam, left_WR[beam, choice]])
                tail = (place, frozenset(order_WN[beam, k:].tolist()) - {place})
                way = float(onward_WR[beam, choice])
                if tail not in kept:
                    if len(kept) == width:
                        continue
                    kept[tail] = (way, beam, choice)
                elif way < kept[tail][0]:
                    kept[tail] = (way, beam, choice)
            beams = torch.tensor([beam for _, beam, _ in kept.values()])
            choices = torch.tensor([choice for _, _, choice in kept.values()])
            order_WN = _brought(order_WN[beams], k, left_WR[beams, choices])
            chance_W, way_W = total_WR[beams, choices], onward_WR[beams, choices]
        return order_WN[lengths(point_BN2.expand(len(order_WN), n, 2), order_WN).argmin()].numpy()

    def _checked(self, points: Any) -> Tensor:
        if self.nearest and not isinstance(self.network, TailNetwork):
            raise SolveError(f"nearest={self.nearest} is for networks of tails; others see all places")
        return _maps(points)

    def _greedy(self, point_BN2: Tensor) -> Tensor:
        n = point_BN2.shape[1]
        order_BN, memory = torch.arange(n).expand(len(point_BN2), n), self.network.memory(point_BN2)
        for k in range(1, n):
            seen_BN2 = point_BN2.gather(1, order_BN[..., None].expand_as(point_BN2))
            ordered = memory if memory is None else memory.gather(1, order_BN[..., None].expand_as(memory))
            scores_BR, left_BR = self._scores(seen_BN2, k, ordered)
            order_BN = _brought(order_BN, k, left_BR.gather(1, scores_BR.argmax(dim=1, keepdim=True))[:, 0])
        return order_BN

    def _scores(self, seen_BN2: Tensor, k: int, memory: Any) -> tuple[Tensor, Tensor]:
        """Scores of the places that are looked at, and their positions in the order."""
        left_BR = torch.arange(k, seen_BN2.shape[1]).expand(len(seen_BN2), -1)
        if self.nearest and left_BR.shape[1] > self.nearest:
            far_BR = _distances(seen_BN2[:, k - 1 : k], seen_BN2[:, k:])[:, 0]
            left_BR = k + far_BR.topk(self.nearest, dim=1, largest=False).indices
            here_BN = torch.cat([torch.tensor([0, k - 1]).expand(len(seen_BN2), 2), left_BR], dim=1)
            return self.network.scores(seen_BN2.gather(1, here_BN[..., None].expand(-1, -1, 2)), 2, None), left_BR
        return self.network.scores(seen_BN2, k, memory), left_BR


@dataclass(frozen=True)
class TourImitation:
    """Settings of the training.

    network: a name of `NETWORKS`. batches: updates. batch: trips in each, all with the same number of places left, at least
    three. rate: of Adam, falling to 0 as a cosine. clip: largest norm of a gradient.
    """

    network: str = "tail"
    shape: TourShape = TourShape()
    batches: int = 10_000
    batch: int = 128
    rate: float = 1e-3
    clip: float = 1.0

    def learn(
        self, points: np.ndarray, orders: np.ndarray, seed: int = 0, watch: Callable[[int, float], None] | None = None
    ) -> TourPolicy:
        """A policy from short trips. points: (trips, n, 2) in the unit square, n >= 5. orders: (trips, n), of the visit.

        watch: is told the number of a batch and its loss. The same seed gives the same weights.
        Raises SolveError for a name that is none of `NETWORKS`, points outside the square, or orders that are no permutations.
        """
        if self.network not in NETWORKS:
            raise SolveError(f"no network is called {self.network!r}; there are {', '.join(NETWORKS)}")
        point_BN2 = _maps(points)
        _, n, _ = point_BN2.shape
        given = np.asarray(orders)
        if given.shape != point_BN2.shape[:2] or n < 5:
            raise SolveError(f"orders have shape {given.shape} and points {tuple(point_BN2.shape)}; one order a trip, n >= 5")
        for b in np.flatnonzero((np.sort(given, axis=1) != np.arange(n)).any(axis=1))[:1].tolist():
            raise SolveError(f"order {b} is {given[b].tolist()}; it must visit each of 0 to {n - 1} once")
        tour_BN2 = point_BN2.gather(1, torch.from_numpy(given.astype(np.int64))[..., None].expand_as(point_BN2))
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = NETWORKS[self.network](self.shape)
        optimiser = torch.optim.Adam(network.parameters(), lr=self.rate, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(self.batches, 1))
        for number in range(self.batches):
            trip_BN2 = _cut(tour_BN2, self.batch, generator)
            k = int(torch.randint(1, n - 2, (), generator=generator))
            scores_BR = network.scores(trip_BN2, k, network.memory(trip_BN2))
            loss = cross_entropy(scores_BR, torch.zeros(len(scores_BR), dtype=torch.int64))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), self.clip)
            optimiser.step()
            schedule.step()
            if watch is not None:
                watch(number, float(loss.detach()))
        return TourPolicy(network.eval())


def lengths(point_BN2: Tensor, order_BN: Tensor) -> Tensor:
    """Lengths of round trips, (b,), of points (b, n, 2) in orders (b, n)."""
    way_BN2 = point_BN2.gather(1, order_BN[..., None].expand_as(point_BN2))
    return (way_BN2 - way_BN2.roll(-1, dims=1)).norm(dim=2).sum(dim=1)


def _maps(points: Any) -> Tensor:
    """Points (b, n, 2) in single precision. Raises SolveError for another shape, or a place that is not in the unit square."""
    given = np.asarray(points, dtype=np.float32)
    if given.ndim != 3 or given.shape[2] != 2 or not given.size:
        raise SolveError(f"points have shape {given.shape}; they must be (trips, places, 2), at least one of each")
    for b, i, _ in np.argwhere(~((given >= 0) & (given <= 1)))[:1].tolist():
        raise SolveError(f"place {i} of trip {b} is {given[b, i].tolist()}; it must be in the unit square: scale the map")
    return torch.from_numpy(given)


def _cut(tour_BN2: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Trips drawn with replacement, each begun anywhere, either way round, in one of the eight positions."""
    trips, places, _ = tour_BN2.shape
    row_B = torch.randint(trips, (n,), generator=generator)
    start_B = torch.randint(places, (n, 1), generator=generator)
    way_B = 1 - 2 * torch.randint(2, (n, 1), generator=generator)
    turn_B = (start_B + way_B * torch.arange(places)) % places
    return _positioned(tour_BN2[row_B[:, None], turn_B], torch.randint(8, (n,), generator=generator))


def _positioned(point_BN2: Tensor, position: int | Tensor) -> Tensor:
    """Points in one of the eight positions of the square; 0 is their own. position: one, or one a trip."""
    bits = torch.as_tensor(position).reshape(-1, 1, 1)
    x_BN2 = torch.where(bits & 1 > 0, point_BN2.flip(2), point_BN2)
    flip_B12 = torch.cat([bits & 2, bits & 4], dim=2) > 0
    return torch.where(flip_B12, 1 - x_BN2, x_BN2)


def _brought(order_BN: Tensor, k: int, position_B: Tensor) -> Tensor:
    """Orders with what stands at a position >= k exchanged for what stands at k."""
    order_BN, rows = order_BN.clone(), torch.arange(len(order_BN))
    order_BN[rows, k], order_BN[rows, position_B] = order_BN[rows, position_B], order_BN[:, k].clone()
    return order_BN


def _distances(a_BN2: Tensor, b_BM2: Tensor) -> Tensor:
    return (a_BN2[:, :, None] - b_BM2[:, None]).norm(dim=3)
