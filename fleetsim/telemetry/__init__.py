"""Readings of single GPUs, derived from the tables of a finished run; nothing here simulates.

:class:`fleetsim.telemetry.sensors.Telemetry` is the door, :mod:`fleetsim.telemetry.table` writes files, and
:mod:`fleetsim.telemetry.hardware` holds all constants with their sources. What is derived, and how:

- *Who is on which GPU*: the allocations say how many GPUs of a node an attempt holds. It gets the lowest
  indexes that are free, in order of start.
- *What runs*: nothing, a set-up (a process, no kernels), or work, in which kernels run and pause in cycles
  of 2 to 60 s by class. The share of each cycle in which they run is the busy share of the books, so that
  means agree.
- *Power*: idle, with a process, and with kernels as the catalogue's model has it, less the server's share,
  at the power limit of the site. The sensor has a gain of its own and noise; the energy counter is the
  exact integral without the noise.
- *Temperature*: one time constant, from the mean power of each state.
- *Errors*: the XIDs of the failures, a minute before they take a node out of service.

Runs that share GPUs among jobs are refused.
"""
