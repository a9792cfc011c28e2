"""GPU kernels (Triton), each beside a plain torch twin that is its meaning and its CPU fallback. Nothing has moved in yet."""
