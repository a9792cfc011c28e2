"""Do tails make a tour policy that was trained on small maps fit for larger ones? Three networks, by imitation, over seeds.

    python -m benchmarks.tours                     20 places in training, up to 200 in the test, three seeds

All train on the same trips in the same batches and make the same number of updates. Trips to imitate and to compare with are
those of `banach.solvers.short_tour` (2-opt, Or-opt and double bridges; on 20 maps each of 20 and 50 places it found LKH's
lengths, on 10 of 100 it was 0.08 % longer in the mean, elkai 2.0.1). Test maps are the same for all. Runs that are in the JSON
already are not made again. TOURS.md, beside the folder of the JSON, is written anew from all that is there; intervals are
Student's at 95 %, over seeds.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from banach.solvers import nearest_neighbour_tour, short_tour, tour_length

from . import machine
from .learning import interval
from .storage import complete, write_page

HERE = Path(__file__).parent
PLACES, TRIPS, KICKS = 20, 40_000, 50
TESTS = {20: (256, 300), 50: (128, 1000), 100: (32, 2000), 200: (8, 2000)}
"""Places: maps, and double bridges tried on each."""
NEAREST, BEAM = 18, 16
MOST = {"eight positions": 100, f"beam of {BEAM}": 50}
"""Places of the largest maps on which this is done."""
NAMES = {
    "tail": "tails",
    "prefix": "prefixes (the same network, on histories)",
    "pointer": "pointer (one encoding of the whole map)",
}


def main(words: list[str] | None = None) -> int:
    """Train what is missing, write the JSON after each run, then the page; 0 when all is there."""
    options = _parser().parse_args(words)
    import torch

    torch.set_num_threads(1)
    path = options.out / "tours.json"
    found = json.loads(path.read_text()) if path.exists() else _begun(options)
    maps = {n: _maps(n, many, 7_000 + n) for n, (many, _) in TESTS.items()}
    trips = cache(lambda: _trips(_maps(PLACES, TRIPS, 1), KICKS))
    make = lambda network, seed: _trained(network, seed, options.batches, trips(), maps, found["short"])  # noqa: E731
    complete(path, found, "network", NAMES, options.seeds, make)
    write_page(options.out.parent / "TOURS.md", page(found))
    print(table(found))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tours", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each network (3)")
    parser.add_argument("--batches", type=int, default=8000, metavar="N", help="updates of each run (8000)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the JSON file (benchmarks/results)")
    return parser


def _maps(n: int, many: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((many, n, 2))


def _distance(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, None] - points, axis=2)


def _trips(maps: np.ndarray, kicks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    made = [short_tour(_distance(points), kicks) for points in maps]
    return maps, np.array([order for _, order in made]), np.array([length for length, _ in made])


def _begun(options: argparse.Namespace) -> dict[str, Any]:
    """What holds for all runs: short trips on the test maps, and the nearest neighbour's."""
    short, nearest = {}, {}
    for n, (many, kicks) in TESTS.items():
        maps, _, length = _trips(_maps(n, many, 7_000 + n), kicks)
        short[str(n)] = length.tolist()
        nearest[str(n)] = float(np.mean([nearest_neighbour_tour(_distance(points))[0] for points in maps] / length)) - 1
    return {
        "command": f"python -m benchmarks.tours --seeds {options.seeds} --batches {options.batches}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.description(),
        "short": short,
        "nearest_neighbour": nearest,
        "runs": [],
    }


def _trained(
    network: str, seed: int, batches: int, trips: Any, maps: dict[int, np.ndarray], short: dict[str, Any]
) -> dict[str, Any]:
    from banach.solvers.neural import TourImitation, TourPolicy

    losses: list[float] = []

    def watch(number: int, loss: float) -> None:
        losses.append(loss)
        if number % 1000 == 999:
            print(
                f"{network} seed {seed}: {number + 1}/{batches}, loss {np.mean(losses[-1000:]):.3f}",
                file=sys.stderr,
                flush=True,
            )

    cpu = time.process_time()
    policy = TourImitation(network, batches=batches).learn(trips[0], trips[1], seed, watch)
    cpu = time.process_time() - cpu
    ways = {"greedy": policy.tours, "eight positions": policy.positioned_tours, f"beam of {BEAM}": partial(_beams, policy)}
    if network == "tail":
        near = TourPolicy(policy.network, NEAREST)
        ways |= {f"{NEAREST} nearest": near.tours, f"{NEAREST} nearest, eight positions": near.positioned_tours}
    gaps: dict[str, dict[str, float]] = {}
    for way, make in ways.items():
        for n, points in maps.items():
            if n > MOST.get(way, n):
                continue
            orders = make(points)
            length = np.array([tour_length(_distance(p), order) for p, order in zip(points, orders, strict=True)])
            gaps.setdefault(way, {})[str(n)] = float(np.mean(length / np.array(short[str(n)]))) - 1
    return {"network": network, "seed": seed, "cpu_seconds": cpu, "loss": float(np.mean(losses[-500:])), "gaps": gaps}


def _beams(policy: Any, maps: np.ndarray) -> np.ndarray:
    return np.array([policy.beam_tour(points, BEAM) for points in maps])


def table(found: dict[str, Any]) -> str:
    """A row for each network and way to make trips, in Markdown."""
    sizes = [str(n) for n in TESTS]
    lines = [
        f"| policy | made | {' | '.join(f'{n} places' for n in sizes)} | processor s of training |",
        "|---|---|" + "---|" * (len(sizes) + 1),
        "| nearest neighbour | | " + " | ".join(f"{100 * found['nearest_neighbour'][n]:.1f} %" for n in sizes) + " | |",
    ]
    for network, name in NAMES.items():
        runs = [run for run in found["runs"] if run["network"] == network]
        if not runs:
            continue
        cost = f"{np.median([run['cpu_seconds'] for run in runs]):.0f}"
        for way in runs[0]["gaps"]:
            cells = []
            for n in sizes:
                if n not in runs[0]["gaps"][way]:
                    cells.append("")
                    continue
                mean, half = interval([100 * run["gaps"][way][n] for run in runs])
                cells.append(f"{mean:.1f} ± {half:.1f} %")
            lines.append(f"| {name} | {way} | {' | '.join(cells)} | {cost} |")
    return "\n".join(lines)


def page(found: dict[str, Any]) -> str:
    """TOURS.md."""
    many = ", ".join(f"{many} of {n}" for n, (many, _) in TESTS.items())
    return "\n".join(
        [
            "# Tours of maps larger than those of training",
            "",
            f"`{found['command']}` ({found['date'][:10]}, {found['machine']['processor']}, one thread). By how much trips "
            f"are longer than short ones, in the mean over test maps ({many} places), with Student's 95 % interval over "
            f"{len({run['seed'] for run in found['runs']})} seeds. All networks were trained on the same {TRIPS:,} trips of "
            f"{PLACES} places, with the same number of updates.",
            "",
            table(found),
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
