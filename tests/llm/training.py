"""A small run for tests: chains of one or two digits in base three, a transformer of one layer that knows half the answers."""

from functools import cache

from banach.llm.policy import Reference
from banach.llm.train import Settings
from banach.llm.train.loop import _fit
from banach.llm.train.run import needs_reference, new_run

SMALL = {
    "task_settings": {"base": 3, "shortest": 1, "longest": 2},
    "model_settings": {"layers": 1, "width": 16},
    "prompts": 4,
    "group_size": 4,
    "max_tokens": 4,
    "rate": 1e-3,
    "steps": 3,
    "warm_start": 40,
    "warm_rate": 1e-2,
    "noise": 0.3,
    "pool": 8,
    "top": 2,
}


def small(**changes):
    return Settings(**(SMALL | changes))


@cache
def warm_weights():
    """Of the warm start, made once."""
    run = new_run(small())
    for done in range(run.settings.warm_start):
        _fit(run, done)
    return run.policy.model.state_dict()


def begun(**changes):
    """A run of these settings after its warm start, without a folder."""
    settings = small(**changes)
    run = new_run(settings)
    run.policy.model.load_state_dict(warm_weights())
    if needs_reference(run.spec, settings.refresh):
        run.reference = Reference(run.policy, settings.reference_decay)
    return run
