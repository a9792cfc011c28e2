"""The Triton head, run by Triton's interpreter, equals the torch twin.

The interpreter has to be chosen before triton is imported: everything runs in one process of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

CASES = {
    "one tile": {"n": 5, "v": 7, "d": 3},
    "several tiles, ragged": {"n": 67, "v": 300, "d": 70},
    "wide logits": {"n": 9, "v": 200, "d": 8, "spread": 6.0},
    "a common level": {"n": 9, "v": 200, "d": 8, "level": 1000.0},
    "temperature": {"n": 9, "v": 150, "d": 8, "temperature": 0.7},
    "bfloat16": {"n": 9, "v": 150, "d": 8, "dtype": "bfloat16"},
    "float16": {"n": 9, "v": 150, "d": 8, "dtype": "float16"},
    "stretches": {"n": 9, "v": 300, "d": 8, "stretch": 128 * 9 * 4},
}

PROGRAM = """
import json, sys, warnings
warnings.simplefilter("error")
import torch
torch.set_num_threads(1)
from banach.cuda import head_kernel
from banach.cuda.head_chunked import ChunkedHead
from head_naive import gradients, inputs

assert head_kernel.INTERPRET
found = {}
for name, case in json.loads(sys.argv[1]).items():
    scale = 1 / case.pop("temperature", 1.0)
    head_kernel.STRETCH_BYTES = case.pop("stretch", 2**28)
    dtype = getattr(torch, case.pop("dtype", "float32"))
    hidden, weight, target, up_logp, up_entropy = inputs(**case)
    rounded = [x.to(dtype) for x in (hidden, weight)]
    up = [x.float() for x in (up_logp, up_entropy)]
    top = min(5, case["v"])
    kernel = lambda h, w, y: head_kernel.FusedHead.apply(h, w, y, scale, True, top, 64)
    twin = lambda h, w, y: ChunkedHead.apply(h, w, y, scale, True, top, 64)
    a, da = gradients(kernel, *rounded, target, *up)
    b, db = gradients(twin, *[x.double() for x in rounded], target, *[x.double() for x in up])
    dead = (up_logp == 0) & (up_entropy == 0)
    found[name] = {
        "values": [float((x.double() - y).detach().abs().max()) for x, y in zip(a, b)],
        "gradients": [float((x.double() - y).abs().max() / y.abs().max()) for x, y in zip(da, db)],
        "dead rows": float(da[0][dead].abs().sum()),
        "types": [str(x.dtype) for x in (a[0], *da)],
    }
ties = torch.zeros(3, 4), torch.zeros(9, 4), torch.zeros(3, dtype=torch.int64)
found["ties"] = head_kernel.FusedHead.apply(*ties, 1.0, True, 4, 64)[2].tolist()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    """What the kernel said of every case, held against the twin in float64."""
    here = str(Path(__file__).parent)
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": here, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, json.dumps(CASES)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


VALUES = {"wide logits": 2e-5, "several tiles, ragged": 2e-5, "a common level": 3e-4}  # float32 logits of 30, 30 and 1000
GRADIENTS = {
    "wide logits": 2e-5,
    "a common level": 3e-2,  # the slopes of a token add up to 0, and a weight of 1000 multiplies what rounding leaves of it
    "bfloat16": 2**-6,
    "float16": 2**-9,
}


@pytest.mark.parametrize("case", CASES)
def test_values_are_those_of_the_twin(found, case):
    assert max(found[case]["values"]) < VALUES.get(case, 4e-6), found[case]


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_the_twin(found, case):
    assert max(found[case]["gradients"]) < GRADIENTS.get(case, 4e-6), found[case]


@pytest.mark.parametrize("case", CASES)
def test_rows_without_weight_have_no_gradient(found, case):
    assert found[case]["dead rows"] == 0


def test_values_are_single_precision_and_gradients_of_the_operands_type(found):
    assert found["bfloat16"]["types"] == ["torch.float32", "torch.bfloat16", "torch.bfloat16"]


def test_equal_logits_count_as_often_as_they_stand_there(found):
    assert found["ties"] == pytest.approx([4 / 9] * 3)
