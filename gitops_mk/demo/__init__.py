"""The demo: a real trainer, a GitOps repository of its own, and the whole loop between them, on this machine alone."""
