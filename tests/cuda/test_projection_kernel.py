"""The projections in Triton, run by Triton's interpreter, equal the torch twin.

The interpreter has to be chosen before triton is imported: everything runs in one process of its own.
"""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

CASES = {
    "one tile": {"rows": 5, "atoms": 7, "size": 4},
    "one atom": {"rows": 2, "atoms": 1, "size": 3},
    "several tiles, ragged": {"rows": 4, "atoms": 201, "size": 70},
    "more outputs than atoms": {"rows": 3, "atoms": 51, "size": 201},
    "levels at jumps": {"rows": 6, "atoms": 16, "size": 16},
    "single precision": {"rows": 4, "atoms": 67, "size": 51, "dtype": "float32"},
}

PROGRAM = """
import json, sys, warnings
warnings.simplefilter("error")
import torch
torch.set_num_threads(1)
from banach.cuda import projection_kernel, projection_plain

found = {}
rng = torch.Generator().manual_seed(0)
for name, case in json.loads(sys.argv[1]).items():
    rows, atoms, size = case["rows"], case["atoms"], case["size"]
    dtype = getattr(torch, case.get("dtype", "float64"))
    y = (torch.randint(-40, 41, (rows, atoms), generator=rng) / 8).to(dtype)
    p = torch.randint(0, 9, (rows, atoms), generator=rng).to(dtype)
    p[:, 0] += 1
    p /= p.sum(1, keepdim=True)
    if name == "levels at jumps":
        p = torch.full_like(p, 1 / atoms)
    grid = torch.linspace(-4, 4, size, dtype=dtype)
    grid[0] -= 0.5
    a, b = (m.categorical(y, p, grid) for m in (projection_kernel, projection_plain))
    c, d = (m.quantiles(y, p, size) for m in (projection_kernel, projection_plain))
    bad_y, bad_p = torch.zeros(4, atoms, dtype=dtype), torch.full((4, atoms), 1 / atoms, dtype=dtype)
    bad_y[0, -1], bad_y[1, 0], bad_p[2, -1], bad_p[3, 0] = torch.nan, torch.inf, -1.0, 1.5
    bad = [projection_kernel.categorical(bad_y, bad_p, grid), projection_kernel.quantiles(bad_y, bad_p, size)]
    found[name] = {
        "categorical": float((a - b).abs().max()), "quantiles": float((c - d).abs().max()),
        "masses": float((a.sum(1) - 1).abs().max()), "no laws": all(bool(x.isnan().all()) for x in bad),
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    """How far the kernels were from the twin in every case."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, json.dumps(CASES)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", CASES)
def test_categorical_weights_are_those_of_the_twin(found, case):
    bound = 2e-6 if "dtype" in CASES[case] else 1e-13
    assert found[case]["categorical"] < bound
    assert found[case]["masses"] < bound


@pytest.mark.parametrize("case", CASES)
def test_quantiles_are_exactly_those_of_the_twin(found, case):
    assert found[case]["quantiles"] == 0.0


@pytest.mark.parametrize("case", CASES)
def test_rows_that_are_no_laws_are_nan(found, case):
    assert found[case]["no laws"]


COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from banach.cuda import projection_kernel as kernels

for kind, largest in (("fp32", 3.4028234663852886e38), ("fp64", 1.7976931348623157e308)):
    block, sizes = {"LARGEST": largest, "BLOCK_A": 64}, {"A": "i32", "M": "i32"}
    y, p, z, level, out = ({f"{name}_ptr": f"*{kind}"} for name in ("y", "p", "z", "level", "out"))
    for kernel, arguments, constants in (
        (kernels._categorical, y | p | z | out | sizes, block | {"OFF": 1e-4, "BLOCK_M": 64}),
        (kernels._levels, y | p | level | {"A": "i32"}, block | {"OFF": 1e-4}),
        (kernels._quantiles, y | level | out | sizes, block | {"JUMP": 1e-6, "BLOCK_M": 64}),
    ):
        source = ASTSource(kernel, arguments | dict.fromkeys(constants, "constexpr"), constexprs=constants)
        made = compile(source, target=GPUTarget("cuda", 90, 32))
        assert kind == "fp64" or "f64" not in made.asm["ptx"], kernel
"""


def test_the_kernels_compile_for_a_device_and_single_precision_stays_single(tmp_path):
    """The interpreter lets pass what the compiler refuses, such as a variable whose type changes in a loop."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(tmp_path)}
    program = tmp_path / "program.py"
    program.write_text(COMPILE)
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
