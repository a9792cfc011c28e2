"""From the words of a command to a decision problem: a file, a named instance or a gymnasium environment.

model.npz                                this library's own format
model.umb, model.tra                     the model checkers' formats
garnet:states=1000,discount=0.99         a named instance and its parameters
gym:FrozenLake-v1:map_name=8x8           a gymnasium environment with a table, and its settings
"""

from __future__ import annotations

import argparse
import dataclasses
import warnings
from pathlib import Path
from typing import Any

from ..mdp.ambiguity.s_rectangular import SRectangular
from ..mdp.criterion import AverageReward, Criterion, Discounted, FiniteHorizon, TotalReward
from ..mdp.errors import ModelError
from ..mdp.model import MDP
from ..mdp.robust import RobustMDP
from .ambiguity import set_named
from .spelling import SpellingError, spelled

ASKED = (".umb", ".tra")

MODEL_HELP = "a file (.npz, .umb, .tra), a named instance (garnet:states=1000), or a gymnasium table (gym:Taxi-v4)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words that name a problem and what is wanted of it."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    group = parser.add_argument_group("what to optimise (default: what the file or the instance says)")
    group.add_argument("--discount", type=float, metavar="G", help="discounted reward, 0 <= G < 1; with --horizon also 1")
    group.add_argument("--horizon", type=int, metavar="H", help="the reward of the first H decisions")
    group.add_argument("--total-reward", action="store_true", help="undiscounted reward until a terminal state")
    group.add_argument("--average-reward", action="store_true", help="long-run average reward a step")
    group.add_argument("--minimize", action="store_true", help="rewards are costs, probabilities are to be small")
    group = parser.add_argument_group("what nature may do (default: nothing)")
    group.add_argument(
        "--robust", metavar="SET", help="the worst rows in a set round the model's: l1:0.1, kl:0.05, cvar:0.2 ..."
    )
    group.add_argument("--optimistic", metavar="SET", help="the best rows in such a set")
    group.add_argument(
        "--rectangular", choices=("sa", "s"), default="sa",
        help="what the set bounds: the row of a pair, or all rows of a state together (default: sa)",
    )  # fmt: skip
    group.add_argument("--everywhere", action="store_true", help="rows may also reach states that the model's do not")
    group = parser.add_argument_group("what a .umb or .tra file is asked")
    group.add_argument("--target", metavar="LABEL", help="the probability of reaching a state with this label")
    group.add_argument("--avoid", metavar="LABEL", help="... before any state with this label")
    group.add_argument("--reward", metavar="NAME", help="the reward of this name, until the target where there is one")


def open_problem(arguments: argparse.Namespace) -> MDP | RobustMDP:
    """The problem that the words name, nature's part included.

    Raises BanachErrors (ModelError, FileFormatError, SpellingError), OSError.
    """
    text, criterion = arguments.model, _criterion(arguments)
    suffix = Path(text).suffix
    if suffix not in ASKED and (arguments.target or arguments.avoid or arguments.reward):
        raise SpellingError(f"--target, --avoid and --reward ask something of a .umb or .tra file, which {text} is not")
    if suffix in ASKED:
        read = _umb if suffix == ".umb" else MDP.from_prism
        problem = read(text, criterion=criterion, reward=arguments.reward, target=arguments.target, avoid=arguments.avoid)
    elif suffix == ".npz":
        problem = MDP.load(text)
    elif text.startswith("gym:"):
        problem = _gymnasium(text.removeprefix("gym:"), criterion)
    else:
        from ..mdp.instances.catalogue import make

        problem = make(text)
    wanted = criterion or problem.criterion
    if arguments.minimize:
        wanted = dataclasses.replace(wanted, minimize=True)
    if isinstance(problem, RobustMDP):
        return _of_intervals(problem, wanted, arguments)
    return _with_nature(problem if wanted == problem.criterion else problem.replace(criterion=wanted), arguments)


def nominal(problem: MDP | RobustMDP) -> MDP:
    """The table behind a problem, with its names and its initial distribution."""
    return problem.problem if isinstance(problem, RobustMDP) else problem


def _umb(path: str, **question: Any) -> MDP | RobustMDP:
    from ..mdp.umb import open_umb

    return open_umb(path, **question)


def _of_intervals(problem: RobustMDP, criterion: Criterion, arguments: argparse.Namespace) -> RobustMDP:
    """A file's own intervals. Raises SpellingError where the words give nature something else."""
    if arguments.robust or arguments.optimistic or arguments.everywhere or arguments.rectangular == "s":
        raise SpellingError(f"{arguments.model} says itself what nature may do; leave --robust and --optimistic out")
    return dataclasses.replace(problem, problem=problem.problem.replace(criterion=criterion))


def _with_nature(problem: MDP, arguments: argparse.Namespace) -> MDP | RobustMDP:
    """Raises SpellingError for words that contradict each other, ModelError for a set that does not fit."""
    word = arguments.robust or arguments.optimistic
    if arguments.robust and arguments.optimistic:
        raise SpellingError("--robust and --optimistic ask for different things; give one of them")
    if word is None:
        if arguments.everywhere:
            raise SpellingError("--everywhere says where nature may send the model; add --robust SET or --optimistic SET")
        if arguments.rectangular == "s":
            raise SpellingError("--rectangular says what a set bounds; add --robust SET or --optimistic SET")
        return problem
    chosen = set_named(word, "all" if arguments.everywhere else "nominal")
    if arguments.rectangular == "s":
        chosen = SRectangular(chosen)  # pyright: ignore[reportArgumentType]
    return RobustMDP(problem, chosen, optimistic=arguments.optimistic is not None)


def _criterion(arguments: argparse.Namespace) -> Criterion | None:
    """The criterion that the words name, or None where they leave it to the model. Raises SpellingError for two at once."""
    named = {
        "--horizon": arguments.horizon is not None,
        "--discount": arguments.discount is not None and arguments.horizon is None,
        "--total-reward": arguments.total_reward,
        "--average-reward": arguments.average_reward,
    }
    given = [word for word, there in named.items() if there]
    if len(given) > 1:
        raise SpellingError(f"{' and '.join(given)} ask for different things; give one of them")
    if arguments.horizon is not None:
        return FiniteHorizon(arguments.horizon, 1.0 if arguments.discount is None else arguments.discount)
    if arguments.discount is not None:
        return Discounted(arguments.discount)
    if arguments.total_reward:
        return TotalReward()
    return AverageReward() if arguments.average_reward else None


def _gymnasium(text: str, criterion: Criterion | None) -> MDP:
    import gymnasium

    name, settings = spelled(text)
    if criterion is None:
        raise ModelError(f"gym:{name} does not say what to optimise; add --discount G, --horizon H or --total-reward")
    try:
        with warnings.catch_warnings():  # of newer versions, which the message of an outdated one names
            warnings.simplefilter("ignore")
            environment = gymnasium.make(name, **settings)
    except (gymnasium.error.Error, TypeError) as fault:
        raise ModelError(f"gym:{name}: {fault}") from None
    return MDP.from_gymnasium(environment, criterion=criterion)
