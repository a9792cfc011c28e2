"""What is refused, and that the message says what was wrong, where, and what to do."""

import subprocess
import sys

import pytest
import torch
from banach.llm.advantage import Given, GroupAdvantage
from banach.llm.aggregation import Aggregation
from banach.llm.catalogue import OBJECTIVES, Objective, objective, register
from banach.llm.critic import GeneralisedAdvantage, ValueLoss
from banach.llm.divergence import Divergence
from banach.llm.errors import BatchError, ClipRangeError, SpecError
from banach.llm.mask import AdvantageFilter
from banach.llm.objective import ObjectiveSpec, evaluate
from banach.llm.outcome import Overlong
from banach.llm.plan import plan
from banach.llm.ratio import Ratio, TruncatedImportance
from banach.llm.surrogate import ClippedRatio, ClippedWeight, ImportanceWeighted, PolicyGradient

from .objective_batches import random_batch, rebuilt, tensors

NAN = float("nan")


def changed(name, place, number):
    tensor = tensors(random_batch(0, edges=False))[name]
    tensor[place] = number
    return {name: tensor}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (changed("logp_BT", (0, 0), NAN), r"logp_BT is nan at sequence 0, position 0.*mask it or mend it"),
        (changed("logp_BT", (1, 0), 0.1), r"logp_BT is 0\.1 > 0 at sequence 1, position 0.*log_softmax"),
        (changed("logp_old_BT", (2, 0), -torch.inf), r"logp_old_BT is -inf at sequence 2, position 0"),
        (changed("logp_ref_BT", (0, 0), 2e-6), r"logp_ref_BT is 2e-06 > 0"),
        (changed("logp_sampler_BT", (0, 0), NAN), "logp_sampler_BT is nan"),
        (changed("reward_B", 3, NAN), r"reward_B is nan at sequence 3"),
        (changed("value_BT", (0, 0), torch.inf), "value_BT is inf"),
        (changed("log_policy_BTV", (0, 0), 0.0), r"log_policy_BTV at sequence 0, position 0 sums to exp\(1\.09861\), not 1"),
        ({"mask_BT": torch.full((6, 5), 0.5)}, r"mask_BT holds 0\.5 at sequence 0, position 0; a mask is 0 or 1"),
        ({"truncated_B": torch.full((6,), 2)}, r"truncated_B holds 2 at sequence 0"),
        ({"group_B": torch.zeros(6)}, r"group_B is of torch\.float32; give whole numbers"),
        ({"reward_B": torch.zeros(5)}, r"reward_B is of shape \(5,\), but mask_BT of \(6, 5\): give one entry a sequence"),
        ({"logp_old_BT": torch.zeros(6, 4)}, r"logp_old_BT is of shape \(6, 4\).*one entry a token"),
        ({"log_policy_BTV": torch.zeros(6, 5)}, r"log_policy_BTV is of shape \(6, 5\)"),
        ({"logp_BT": torch.zeros(6)}, r"logp_BT is of shape \(6,\)"),
        ({"logp_BT": torch.zeros(6, 5, dtype=torch.int64)}, r"torch\.int64; give floats of shape \(B, T\)"),
    ],
)
def test_a_batch_that_contradicts_itself_is_refused(changes, message):
    batch = random_batch(0, edges=False)
    if "logp_BT" in changes and not changes["logp_BT"].is_floating_point():
        parts = tensors(batch) | changes
        with pytest.raises(BatchError, match=message):
            type(batch)(**parts)
        return
    with pytest.raises(BatchError, match=message):
        rebuilt(batch, **changes)


def test_a_mask_of_zeros_and_ones_is_a_mask():
    batch = random_batch(0)
    for dtype in (torch.int64, torch.float32, torch.uint8):
        assert torch.equal(rebuilt(batch, mask_BT=batch.mask_BT.to(dtype)).mask_BT, batch.mask_BT)


def test_fresh_log_probabilities_are_checked_as_the_first_were():
    planned = plan(objective("grpo"), random_batch(0))
    with pytest.raises(BatchError, match="logp_BT is nan"):
        planned.evaluate(torch.full((6, 5), NAN))
    with pytest.raises(BatchError, match=r"logp_BT is of shape \(5, 5\)"):
        planned.evaluate(torch.zeros(5, 5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: objective("cispo", cap=0.2), r"cap=0\.2 multiplies every on-policy token.*did you mean cap=1\.2"),
        (lambda: objective("cispo", floor=1.0), "0 <= floor < 1"),
        (lambda: objective("gspo", low=0.2, high=0.2), r"hardly ever binds.*low=3e-4, high=4e-4"),
        (lambda: objective("gspo", high=0.2), "hardly ever binds"),
        (lambda: objective("gspo", low=0.2), "hardly ever binds"),
        (lambda: objective("grpo", ratio=Ratio("sequence-geometric")), "hardly ever binds"),
        (lambda: objective("ppo", low=3e-4, high=4e-4), r"stops nearly every token.*0\.2 is usual"),
        (lambda: objective("ppo", low=3e-4), "stops nearly every token"),
        (lambda: objective("ppo", high=4e-4), "stops nearly every token"),
        (lambda: objective("dapo", low=1.0), "0 < low < 1"),
        (lambda: objective("grpo", low=0.0), "0 < low < 1"),
        (lambda: objective("grpo", high=0.0), "positive"),
        (lambda: objective("grpo", dual=1.0), "stops on-policy tokens"),
        (lambda: ClippedRatio(low=float("nan")), "low=nan"),
        (lambda: ClippedWeight(cap=0.0), "positive cap"),
    ],
)
def test_clip_ranges_that_do_not_do_what_they_are_for_are_refused(make, message):
    with pytest.raises(ClipRangeError, match=message):
        make()


@pytest.mark.parametrize(
    ("name", "range_"),
    [("cispo", {"cap": 0.2}), ("gspo", {"low": 0.2, "high": 0.2}), ("ppo", {"low": 3e-4, "high": 4e-4})],
)
def test_an_unusual_clip_may_be_insisted_on(name, range_):
    spec = objective(name, **range_, unusual_clip=True)
    assert torch.isfinite(evaluate(spec, random_batch(0)).weight_BT).all()


def test_insisting_does_not_lift_what_is_wrong_for_everyone():
    with pytest.raises(ClipRangeError):
        objective("ppo", low=1.5, unusual_clip=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: objective("grqo"), "no objective is called 'grqo'; there are sft, rft"),
        (lambda: objective("grpo", epsilom=1), "grpo has no setting epsilom; it has low, high"),
        (lambda: objective("dr_grpo"), r"dr_grpo needs budget, for instance \{'budget': 4\}"),
        (lambda: GroupAdvantage("median"), "baseline='median'; give none, group-mean"),
        (lambda: GroupAdvantage(scale="std"), "scale='std'"),
        (lambda: GroupAdvantage(scale="group-std"), r"ddof=None.*ddof=0 \(population\) or ddof=1"),
        (lambda: GroupAdvantage(epsilon=-1.0), "epsilon >= 0"),
        (lambda: Aggregation("mean"), "aggregation 'mean'; give one of token-mean"),
        (lambda: Aggregation("sequence-mean-token-sum-constant"), "give the generation budget in tokens"),
        (lambda: Aggregation("token-mean", constant=5), "not read by token-mean"),
        (lambda: Aggregation("token-mean", scope="row"), "scope='row'"),
        (lambda: Ratio("word"), "ratio level 'word'; give one of none, token"),
        (lambda: Ratio("token", clamp=100), r"clamp=100 nats; give a number in \(0, 80\]"),
        (lambda: Ratio("token", clamp=NAN), "clamp=nan nats"),
        (lambda: Ratio("token", floor=0.0), r"floor=0\.0 nats; give a number in \(0, 80\]"),
        (lambda: Ratio("token", floor=-1.0), r"floor=-1\.0 nats"),
        (lambda: Ratio("token", floor=100), r"floor=100 nats.*exp vanishes"),
        (lambda: Ratio("token", floor=NAN), "floor=nan nats"),
        (lambda: TruncatedImportance(0.5), "a cap below 1"),
        (lambda: TruncatedImportance(level="turn"), "give token or sequence"),
        (lambda: Divergence(0.0), "or no divergence at all"),
        (lambda: Divergence(0.1, "k4"), "give one of k1, k2, k3"),
        (lambda: Divergence(0.1, "full", "reward"), "summed over the tables"),
        (lambda: Divergence(0.1, "k1", "reward", importance=True), "no importance"),
        (lambda: Divergence(0.1, clamp=0), "clamp=0"),
        (lambda: GeneralisedAdvantage(discount=1.1), "both lie in"),
        (lambda: GeneralisedAdvantage(bootstrap="last"), "zero, repeat or given"),
        (lambda: ValueLoss(clip=0.0), "None for no clip"),
        (lambda: Overlong(maximum=3, cache=4), "0 < cache <= maximum"),
        (lambda: AdvantageFilter(-1.0), "0 or more"),
        (lambda: objective("grpo", entropy=-0.1), "0 or more"),
        (lambda: ObjectiveSpec("x", Given(), ImportanceWeighted()), "is a function of the ratio"),
        (lambda: ObjectiveSpec("x", Given(), PolicyGradient(), Ratio("token")), "PolicyGradient reads no ratio"),
        (lambda: register(Objective("grpo", lambda: None, "")), "registered already"),
    ],
)
def test_settings_that_make_no_objective_are_refused(make, message):
    with pytest.raises(SpecError, match=message):
        make()


def test_groups_torn_apart_by_sharding_are_noticed():
    batch = random_batch(0, groups=2, size=4)
    for name in ("rloo", "grpo", "dapo", "gspo", "cispo"):
        spec = objective(name, group_size=4)
        evaluate(spec, batch)
        with pytest.raises(BatchError, match=r"has 2 sequences, not 4: keep the sequences of a prompt in one batch"):
            evaluate(spec, batch.select(slice(0, 6)))


def test_a_prompt_with_one_answer_cannot_leave_it_out():
    with pytest.raises(BatchError, match="leave-one-out needs two sequences a prompt"):
        evaluate(objective("rloo"), random_batch(0, size=1))


def test_an_advantage_of_the_wrong_shape_is_refused():
    spec = ObjectiveSpec("x", lambda out: out.reward_B, PolicyGradient())
    with pytest.raises(BatchError, match=r"'x' returned shape \(6,\).*of shape \(6, 5\)"):
        evaluate(spec, random_batch(0))


def test_the_table_of_the_catalogue_names_every_objective_that_is_no_published_system():
    text = sys.modules[register.__module__].__doc__
    own = [name for name, entry in OBJECTIVES.items() if ".systems." not in entry.build.__module__]
    assert [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")][1:] == own
    assert all(entry.source for entry in OBJECTIVES.values())


def test_without_torch_the_room_says_what_to_install():
    program = "import sys; sys.modules['torch'] = None\nimport banach.llm"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "banach.llm needs torch, which is not installed: pip install 'banach[llm]'" in done.stderr
