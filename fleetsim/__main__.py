"""``python -m fleetsim``."""

from fleetsim.cli import main

if __name__ == "__main__":
    main()
