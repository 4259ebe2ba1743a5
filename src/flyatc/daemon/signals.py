"""Signals for one who hands them on: taken one by one, with where they came from."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable

RELAYED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGWINCH,
)


class Signals:
    """Made before any other thread: from then on they are blocked everywhere, and wait for ``listen``. ``before``: what
    was blocked already; a child must get that back.

    By sigwaitinfo(2), since a handler is not told who sent a signal: what the terminal sent (Ctrl-C, a new size) went
    to our whole process group, and who relayed that too would interrupt the app twice."""

    def __init__(self) -> None:
        self.before = signal.pthread_sigmask(signal.SIG_BLOCK, RELAYED)

    def listen(self, tell: Callable[[signal.Signals, bool], None]) -> None:
        """From now on each is told on the loop that runs now; the second argument: whether the kernel sent it."""
        loop = asyncio.get_running_loop()

        def wait() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is to be told any more
                while True:
                    came = signal.sigwaitinfo(RELAYED)
                    # sigaction(2): SI_KERNEL is above 0, what a process sent (SI_USER, SI_QUEUE, SI_TKILL) is not
                    loop.call_soon_threadsafe(tell, signal.Signals(came.si_signo), came.si_code > 0)

        threading.Thread(target=wait, name="signals", daemon=True).start()
