import subprocess
import sys

from tests import conftest

_CODE = """
import time
from keras_retinaface.training import watchdog
dog = watchdog.Watchdog(2.0)
for _ in range(6):
    time.sleep(0.5)
    dog.on_train_batch_end(0)
print("alive", flush=True)
time.sleep(6)
print("awake", flush=True)
"""


def test_a_training_that_stands_still_is_ended():
    result = subprocess.run(
        [sys.executable, "-c", _CODE], capture_output=True, text=True, cwd=conftest.ROOT, timeout=120
    )
    assert result.returncode == 1 and result.stdout == "alive\n"
    assert "no step for 2 seconds: another worker is gone" in result.stderr
