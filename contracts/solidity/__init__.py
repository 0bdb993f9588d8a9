"""Our own contracts: sources, what they compile to, and who compiles them.

`*.sol` are the contracts that the demo deploys, `hostile/*.sol` exist for tests only. `build.py` compiles them into
`artifacts/`, `artifacts.py` loads those; nothing else here is needed at run time. README.md lists functions and events.
"""
