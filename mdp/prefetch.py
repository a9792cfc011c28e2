"""Asking for memory before it is needed, in numba kernels.

A sweep that reads rows in random order waits for each of them; the processor does not guess which come next, the sweep knows.
"""

# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false
# (an intrinsic is called by numba's compiler with numba's own types)

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LINE = 8
"""Doubles that come together: a cache line of 64 bytes."""


@intrinsic
def prefetch(typingctx: Any, array: Any, place: Any) -> Any:
    """Begin to fetch the line of array.flat[place]; array: C-contiguous, place: an integer within its size. Nothing else."""
    del typingctx

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        at = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        builder.call(fetch, [at, number(0), number(3), number(1)])  # to read, keep it in every cache, data
        return context.get_dummy_value()

    return types.void(array, place), emit
