"""The parts of the stack as processes of this machine: one module each, all with the shape of ``server.Server``."""
