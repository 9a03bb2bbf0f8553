"""A real Prometheus on loopback, with a database that is made for the test; and a server that answers as none should."""
