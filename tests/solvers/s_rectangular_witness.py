"""s-rectangular problems a second time: programs written from the sets' definitions, and exact rationals for L1.

Nothing here shares code with the kernels or the checker. `BALLS` is the register: what stands in it passes the battery.
"""

import itertools
import warnings
from fractions import Fraction

import cvxpy as cp
import numpy as np
from banach.mdp import RobustMDP, strategies
from banach.mdp.ambiguity import KL, L1, Burg, ChiSquare, SRectangular, TotalVariation, WeightedL1
from hypothesis import strategies as st

WEIGHTS = np.array([1.0, 0.5, 2.0, 1.0, 3.0, 0.7])
BALLS = {
    "L1": lambda radius, n, support: L1(radius, support=support),
    "TotalVariation": lambda radius, n, support: TotalVariation(radius, support=support),
    "WeightedL1": lambda radius, n, support: WeightedL1(radius, WEIGHTS[:n], support=support),
    "KL": lambda radius, n, support: KL(radius, support=support),
    "ChiSquare": lambda radius, n, support: ChiSquare(radius, support=support),
    "Burg": lambda radius, n, support: Burg(radius, support=support),
}


@st.composite
def problems(draw, name, hostile=False, max_states=4):
    """A discounted problem whose states have budgets, of either sense, nature on either side, or always a hostile one."""
    model = draw(strategies.discounted_mdps(max_states=max_states))
    support, radius = draw(st.sampled_from(["nominal", "all"])), draw(st.sampled_from([0.4, 0.1, 0.0, 1e-9, 1.5, 30.0]))
    ball = BALLS[name](radius, model.n_states, support)
    gain = None
    if support == "nominal" and draw(st.booleans()):
        gain = np.random.default_rng(draw(st.integers(0, 99))).integers(-2, 3, model.n_transitions).astype(float)
    optimistic = not hostile and draw(st.booleans())
    return RobustMDP(model, SRectangular(ball), optimistic=optimistic, transition_reward=gain)


def comfortable(problem):
    """A width that rounding allows."""
    size = 1 + float(np.abs(problem.reward).max(initial=0.0)) + float(np.abs(problem.terminal_value).max())
    return 1e-6 * size / (1 - problem.problem.discount)


def maximising(problem):
    return problem.negated() if problem.criterion.minimize else problem


def plain(problem):
    """Whether interior-point methods can be believed: probabilities and budgets that they tell from zero."""
    positive = problem.problem.probability[problem.problem.probability > 0]
    radius = problem.sets.parameter.min(initial=1.0)
    return positive.min(initial=1.0) > 1e-3 and (radius == 0 or radius > 1e-3)


def random_weights(problem, seed):
    """A policy (n_pairs,) that randomises, with zeros among its weights."""
    rng = np.random.default_rng(seed)
    weights = np.where(rng.random(problem.n_pairs) < 0.3, 0.0, rng.integers(1, 5, problem.n_pairs).astype(float))
    state = problem.problem.pair_state
    weights[np.bincount(state, weights, problem.n_states)[state] == 0] = 1.0
    return weights / np.bincount(state, weights, problem.n_states)[state]


def rows_of(problem, state, value):
    """Of one state of a maximisation problem: rewards, nominal rows and z, one each an action."""
    model, parts = problem.problem, []
    for pair in range(model.state_ptr[state], model.state_ptr[state + 1]):
        row = slice(int(model.row_ptr[pair]), int(model.row_ptr[pair + 1]))
        gain = 0.0 if problem.transition_reward is None else problem.transition_reward[row]
        parts.append((float(model.reward[pair]), model.probability[row], gain + model.discount * value[model.successor[row]]))
    return parts


def distance(problem, pair, p):
    """The convex distance of a cvxpy row from the nominal row of a pair; for L1 the L1 distance."""
    ball, row = problem.set_of(pair), problem.problem.probability[slice(*problem.row_ptr[pair : pair + 2].tolist())]
    if isinstance(ball, WeightedL1):
        return problem.entries_of(pair)[0] @ cp.abs(p - row)
    return distance_of(ball, row, p) * (2 if isinstance(ball, L1) else 1)


def distance_of(ball, row, p):
    """The convex distance of a row, of numbers or of cvxpy, from a nominal row (n,); for L1 the total variation."""
    used = np.flatnonzero(row)
    if isinstance(p, np.ndarray):
        half = {L1: 0.5, TotalVariation: 1.0}
        return half.get(type(ball), 1.0) * ball.distance(row, p)
    if isinstance(ball, WeightedL1):
        return ball.weights @ cp.abs(p - row)
    if isinstance(ball, KL):
        return cp.sum(cp.kl_div(p[used], row[used]))
    if isinstance(ball, ChiSquare):
        return cp.sum(cp.multiply(1 / row[used], cp.square(p[used] - row[used])))
    if isinstance(ball, Burg):
        return row[used] @ np.log(row[used]) - row[used] @ cp.log(p[used])
    return cp.norm1(p - row) / 2


def conic_worth(problem, state, value, decision=None):
    """(T value)(state), or with a decision (A,) what nature leaves of it; by cvxpy."""
    pairs = range(problem.problem.state_ptr[state], problem.problem.state_ptr[state + 1])
    parts, side = rows_of(problem, state, value), -1.0 if problem.optimistic else 1.0
    rows = [cp.Variable(len(nominal), nonneg=True) for _, nominal, _ in parts]
    worth = [side * (reward + p @ z) for p, (reward, _, z) in zip(rows, parts, strict=True)]
    spent = [distance(problem, pair, p) for pair, p in zip(pairs, rows, strict=True)]
    constraints = [cp.sum(spent) <= problem.set_of(pairs[0]).radius]
    constraints += [cp.sum(p) == nominal.sum() for p, (_, nominal, _) in zip(rows, parts, strict=True)]
    level = cp.Variable()
    if decision is None:
        constraints += [w <= level for w in worth]
        goal = level
    else:
        goal = sum(d * w for d, w in zip(decision, worth, strict=True))
    program = cp.Problem(cp.Minimize(goal), constraints)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        program.solve(solver="CLARABEL")
    return side * float(program.value)


def policy_program(problem, decision):
    """The value (n_states,) of a decision (n_pairs,) against L1 budgets: one linear program for the whole fixed point.

    maximise sum v subject to v_s <= min_p sum_k d_k (r_k + p_k.z), the inner problem replaced by its dual: a price l_s of the
    budget, and for each pair a level nu_k <= w_kj + l_s of the worths w_kj = d_k z_kj.
    """
    model = problem.problem
    v, price, nu = cp.Variable(model.n_states), cp.Variable(model.n_states, nonneg=True), cp.Variable(model.n_pairs)
    constraints = [v[s] == model.terminal_value[s] for s in np.flatnonzero(model.terminal)]
    for s in np.flatnonzero(~model.terminal):
        worth = -price[s] * problem.set_of(int(model.state_ptr[s])).radius
        for k in range(model.state_ptr[s], model.state_ptr[s + 1]):
            row = slice(int(model.row_ptr[k]), int(model.row_ptr[k + 1]))
            gain = 0.0 if problem.transition_reward is None else problem.transition_reward[row]
            z, nominal = decision[k] * (gain + model.discount * v[model.successor[row]]), model.probability[row]
            constraints.append(nu[k] <= z + price[s])
            worth += decision[k] * model.reward[k] + nu[k] * nominal.sum() + nominal @ cp.minimum(z - nu[k], price[s])
        constraints.append(v[s] <= worth)
    program = cp.Problem(cp.Maximize(cp.sum(v)), constraints)
    program.solve(solver="HIGHS")
    return v.value


def exact_worth(problem, state, value):
    """(T value)(state) of a hostile L1 problem over the stored successors, in Fractions.

    sum_a xi_a(u) <= kappa is decided at each knot u of the curves xi_a, and the last segment is solved.
    """
    model, curves = problem.problem, []
    for pair in range(model.state_ptr[state], model.state_ptr[state + 1]):
        row, used = range(model.row_ptr[pair], model.row_ptr[pair + 1]), []
        for entry in row:
            gain = 0.0 if problem.transition_reward is None else float(problem.transition_reward[entry])
            z = Fraction(gain) + Fraction(model.discount) * Fraction(float(value[model.successor[entry]]))
            used.append((z, Fraction(float(model.probability[entry]))))
        used.sort(reverse=True)
        least, knots = used[-1][0], [(Fraction(0), Fraction(float(model.reward[pair])) + sum(v * b for v, b in used))]
        for v, b in used:
            if v > least and b > 0:
                knots.append((knots[-1][0] + 2 * b, knots[-1][1] - b * (v - least)))
        curves.append(knots)
    radius, bottom = Fraction(problem.set_of(int(model.state_ptr[state])).radius), max(knots[-1][1] for knots in curves)

    def spent(u):
        result = Fraction(0)
        for knots in curves:
            for (near, high), (far, low) in itertools.pairwise(knots):
                if low <= u < high:
                    result += near + (high - u) / (high - low) * (far - near)
        return result

    levels = sorted({u for knots in curves for _, u in knots if u > bottom} | {bottom})
    reached = next(u for u in levels if spent(u) <= radius)
    if reached == bottom:
        return bottom
    below = levels[levels.index(reached) - 1]
    return reached - (radius - spent(reached)) * (reached - below) / (spent(below) - spent(reached))
