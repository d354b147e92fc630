"""What holds for all tests."""

import signal

# Whoever starts the tests in the background may have SIGINT ignored, which every process they start would inherit; some
# tests are about Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["tests.support.past", "tests.support.worker_processes"]
