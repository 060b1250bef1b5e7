"""Benchmarks of jaxhep against PyTorch; each is run as `python -m benchmarks.<name>`."""
