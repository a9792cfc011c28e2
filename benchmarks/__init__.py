"""Side-by-side timings against other people's solvers: `python -m benchmarks --help`. Reported, never asserted in tests."""
