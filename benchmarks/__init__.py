"""Benchmarks of jaxhep, each run as `python -m benchmarks.<name>`; README.md says what each measures."""
