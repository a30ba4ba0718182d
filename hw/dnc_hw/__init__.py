"""Cycle-level model of the FPGA edge processor (not built yet)."""
