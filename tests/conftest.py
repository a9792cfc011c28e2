"""Property tests draw the same examples on every run, on every machine."""

from hypothesis import settings

settings.register_profile("specification", derandomize=True, database=None)
settings.load_profile("specification")
