"""Where objectives are tried: small policies on enumerable token problems, trained by sampling, measured exactly."""

from .comparison import Comparison, compare
from .policies import TablePolicy, TransformerPolicy, contexts
from .rollout import batch_of, draw, token_table
from .training import Recipe, measures, noisy_corpus, train, warm_start

__all__ = [
    "Comparison",
    "Recipe",
    "TablePolicy",
    "TransformerPolicy",
    "batch_of",
    "compare",
    "contexts",
    "draw",
    "measures",
    "noisy_corpus",
    "token_table",
    "train",
    "warm_start",
]
