"""Targets, calibration, where QDQ pairs stand, and the files in INT8 and float16."""
