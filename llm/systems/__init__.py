"""Published systems of policy optimization for language models: what each adds to the core, and what is known of it."""

from .apo import apo
from .aspo import aspo
from .bupo import bupo
from .capo import capo
from .copg import copg
from .daa import LogLinearBandit, with_likelihood
from .dapo_direct import dapo_direct, step_numbers, unique_steps
from .eapo import eapo
from .inpo import inpo
from .lite_ppo import lite_ppo
from .loop import collected, loop
from .nft import nft
from .risk_po import risk_po, risk_po_released
from .rpo import spurious_tail
from .system import SYSTEMS, Reduction, System, system
from .t_ppo import WindowedRun, t_ppo

__all__ = [
    "SYSTEMS",
    "LogLinearBandit",
    "Reduction",
    "System",
    "WindowedRun",
    "apo",
    "aspo",
    "bupo",
    "capo",
    "collected",
    "copg",
    "dapo_direct",
    "eapo",
    "inpo",
    "lite_ppo",
    "loop",
    "nft",
    "risk_po",
    "risk_po_released",
    "spurious_tail",
    "step_numbers",
    "system",
    "t_ppo",
    "unique_steps",
    "with_likelihood",
]
