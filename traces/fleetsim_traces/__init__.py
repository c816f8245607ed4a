"""Workload traces: public log formats read into one job table, and generators of look-alikes.

:func:`read_trace` reads, :func:`write_jobs` writes; ``fleetsim_traces.generate`` makes look-alikes,
``fleetsim_traces.profile`` describes a trace, ``fleetsim_traces.samples`` finds the bundled ones.
"""

from fleetsim_traces.errors import Problem, TraceError
from fleetsim_traces.mapping import ColumnMap, Source, load_columns
from fleetsim_traces.reading import READERS, detect, read_trace
from fleetsim_traces.table import COLUMNS, Trace, schema, write_jobs

__all__ = [
    "COLUMNS",
    "READERS",
    "ColumnMap",
    "Problem",
    "Source",
    "Trace",
    "TraceError",
    "detect",
    "load_columns",
    "read_trace",
    "schema",
    "write_jobs",
]
