"""Telemetry: the metric catalogue and its Prometheus text."""
