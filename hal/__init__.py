"""Devices: Protocols, drivers, and the virtual instrument that tests cannot tell from glass."""
