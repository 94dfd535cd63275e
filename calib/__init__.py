"""Calibration of one instrument: focus, illumination, and the profile of both."""
