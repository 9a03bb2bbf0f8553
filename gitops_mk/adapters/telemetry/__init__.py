"""Where telemetry comes from. Every source gives blocks of whole lines of at most about 1 MiB, and decides nothing."""
