"""The machine: devices, processes, signals, number formats and files."""
