"""A Kubernetes cluster for tests: see README.md beside this package."""
