"""Property tests draw the same examples on every run, on every machine, however slow it is."""

from hypothesis import settings

settings.register_profile("specification", derandomize=True, database=None, deadline=None)
settings.load_profile("specification")
