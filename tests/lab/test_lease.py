import threading

from edgeprune.lab.lease import Lease
from edgeprune.transport.local import LocalTransport
from edgeprune.worker.keeper import end_all


def test_who_comes_is_not_ended_with_what_the_holder_ends(tmp_path):
    """As where two come at once: the first ends what runs in the work folder while the second's keeper starts."""
    (tmp_path / "work").mkdir()
    done = threading.Event()

    def end() -> None:
        while not done.is_set():
            end_all(tmp_path / "work")

    ending = threading.Thread(target=end)
    ending.start()
    try:
        with Lease(LocalTransport(base=tmp_path), "one") as lease:
            lease.clear()
    finally:
        done.set()
        ending.join()
    assert not (tmp_path / "work").exists()
