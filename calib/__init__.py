"""Calibration of one instrument: focus, illumination and the profile the scan trusts."""
