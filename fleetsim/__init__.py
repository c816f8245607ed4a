"""fleetsim: replay real workloads through an aging, mixed GPU fleet and measure who used what."""

__version__ = "0.1.0"
