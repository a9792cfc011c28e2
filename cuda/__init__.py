"""GPU kernels (Triton), each beside a plain torch twin that is its meaning and its CPU fallback.

`head.linear_log_prob`: from hidden states to log-probabilities, entropies and top masses, the logits never held.
`projection.categorical_projection`, `projection.quantile_projection`: a batch of laws of returns brought to a size.
The package imports without torch and without triton; its modules need torch, the kernels triton.
"""
