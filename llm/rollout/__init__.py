"""Answers drawn from a transformer policy, token in and token out, and their log-probabilities computed again."""

from .llama import llama_log_probs
from .rollout import Respond, Rollout, sample
from .sampling import Sampling, uniforms
from .score import Scores, mismatch, score

__all__ = ["Respond", "Rollout", "Sampling", "Scores", "llama_log_probs", "mismatch", "sample", "score", "uniforms"]
