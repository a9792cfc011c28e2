"""Builds the state spaces in this folder with Storm from PRISM models in stormpy: python tests/data/write_umb.py."""

from pathlib import Path

import stormpy
import stormpy.examples
import stormpy.io
from stormpy.io import CompressionMode, UmbExportOptions

INTERVALS = {"die_intervals": "idtmc/die-intervals.pm"}

MODELS = {  # file: PRISM model, constants, compression
    "die": ("dtmc/die.pm", "", CompressionMode.GZIP),
    "two_dice": ("mdp/two_dice.nm", "", CompressionMode.XZ),
    "consensus_2_2": ("mdp/coin2.nm", "K=2", CompressionMode.GZIP),
    "csma_2_2": ("mdp/csma2-2.nm", "", CompressionMode.GZIP),
    "firewire_3": ("mdp/firewire3-0.5.nm", "", CompressionMode.GZIP),
    "leader_sync_3_5": ("dtmc/leader3_5.pm", "", CompressionMode.NO_COMPRESSION),
}


def main() -> None:
    shipped, here = Path(stormpy.examples.__file__).parent / "files", Path(__file__).parent
    for name, (source, constants, compression) in MODELS.items():
        program = stormpy.parse_prism_program(str(shipped / source))
        if constants:
            program, _ = stormpy.instantiate_constants(program, constants)
        options = stormpy.BuilderOptions()
        options.set_build_all_reward_models()
        options.set_build_all_labels()
        options.set_build_choice_labels()
        model = stormpy.build_model(program, options=options)
        export = UmbExportOptions()
        export.compression = compression
        stormpy.io.export_to_umb(model, here / f"{name}.umb", options=export)
        print(name, model.nr_states, model.nr_choices, model.nr_transitions)
    for name, source in INTERVALS.items():
        options = stormpy.BuilderOptions()
        options.set_build_all_reward_models()
        options.set_build_all_labels()
        model = stormpy.build_model[stormpy.Interval](stormpy.parse_prism_program(str(shipped / source)), options=options)
        stormpy.io.export_to_umb(model, here / f"{name}.umb")
        print(name, model.nr_states, model.nr_choices, model.nr_transitions)


if __name__ == "__main__":
    main()
