"""What `make bench` and `make loadtest` stand on. Python's standard library and nothing else."""
