"""The parts of ``fleetsim report``: measures (numbers), drawing (charts), sections (words), page (HTML)."""
