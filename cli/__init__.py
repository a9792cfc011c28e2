"""The banach command: thin, no logic of its own."""
