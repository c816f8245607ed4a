"""Workload traces: public log formats read into one job table or one request table, and look-alikes.

:func:`read_trace` reads jobs, :func:`read_requests` requests; :func:`write_jobs` and :func:`write_requests`
write them; ``fleetsim_traces.generate`` makes look-alikes, ``fleetsim_traces.profile`` describes a trace,
``fleetsim_traces.samples`` finds the bundled ones.
"""

from fleetsim_traces.errors import Problem, TraceError
from fleetsim_traces.mapping import ColumnMap, Source, load_columns
from fleetsim_traces.reading import READERS, detect, read_trace
from fleetsim_traces.request_generic import RequestMap
from fleetsim_traces.request_reading import REQUEST_READERS, detect_requests, read_requests
from fleetsim_traces.requests import COLUMNS as REQUEST_COLUMNS
from fleetsim_traces.requests import RequestTrace, request_schema, write_requests
from fleetsim_traces.table import COLUMNS, Trace, schema, write_jobs

__all__ = [
    "COLUMNS",
    "READERS",
    "REQUEST_COLUMNS",
    "REQUEST_READERS",
    "ColumnMap",
    "Problem",
    "RequestMap",
    "RequestTrace",
    "Source",
    "Trace",
    "TraceError",
    "detect",
    "detect_requests",
    "load_columns",
    "read_requests",
    "read_trace",
    "request_schema",
    "schema",
    "write_jobs",
    "write_requests",
]
