"""What holds for all tests."""

import signal

# Whoever starts the tests in the background may have these ignored (a shell SIGINT, nohup SIGHUP), which every process
# they start would inherit; some tests are about Ctrl-C and a terminal that is closed.
for number, action in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, action)

pytest_plugins = ["tests.support.past", "tests.support.worker_processes"]
