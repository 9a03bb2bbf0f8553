"""A real Kubernetes control plane on loopback for the tests, and Flux beside it. `python -m tests.cluster` starts one by hand."""
