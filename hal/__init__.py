"""Devices: Protocols, drivers, and a virtual instrument with real faults."""
