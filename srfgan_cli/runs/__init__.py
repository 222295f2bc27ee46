"""A run: its folder, the plan that leads to it, the graph of its stages, and the detector that it leaves."""
