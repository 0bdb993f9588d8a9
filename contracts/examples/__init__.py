"""Golden examples of every message, and the conformance kit of consumers: README.md says how to use it."""
