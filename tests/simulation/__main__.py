"""`python -m tests.simulation --seeds 0:2000`: run seeds, say how far it is, and how to replay what failed."""

import sys

from tests.simulation.main import main

if __name__ == "__main__":
    sys.exit(main())
