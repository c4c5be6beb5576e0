"""Scale without the machines: the real planner, store and driver under simulated load."""
