"""Workload traces: public log formats read into one job table, and generators of look-alikes."""
