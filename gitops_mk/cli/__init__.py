"""The command line: each command parses, calls the controller, and prints. One thin file a command, loaded when called."""
