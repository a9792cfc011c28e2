"""What theory promises: theorems as expressions, the experiments that measure them, the search that tries to break them."""
