import subprocess
import sys

from tests import conftest

_CODE = """
import time
from keras_retinaface.training import watchdog
with watchdog.Watchdog(2.0, "nobody came", "wait") as dog:
    for _ in range(6):
        time.sleep(0.5)
        dog.on_train_batch_end(0)
    print("alive", flush=True)
time.sleep(3)
print("left alone", flush=True)
with watchdog.Watchdog(1.0, "nobody came", "wait", waits_at_epochs=False) as dog:
    dog.on_epoch_end(0)
    time.sleep(2)
    dog.on_epoch_begin(1)
    print("own work", flush=True)
with dog.__class__(2.0, "nobody came", "wait"):
    time.sleep(6)
print("awake", flush=True)
"""


def test_a_training_that_stands_still_is_ended():
    result = subprocess.run(
        [sys.executable, "-c", _CODE], capture_output=True, text=True, cwd=conftest.ROOT, timeout=120
    )
    assert result.returncode == 1 and result.stdout == "alive\nleft alone\nown work\n"
    assert "no step for 2 seconds: nobody came, or --worker_timeout is too short; wait" in result.stderr
