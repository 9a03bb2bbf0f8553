"""Prometheus without a connection: what to ask of it, and what its answers say about steps of training."""
