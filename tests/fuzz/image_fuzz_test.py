import ctypes
import gc
import random
import sys
import time

import numpy as np
import pytest

from keras_retinaface.media import image_file
from tests.fuzz import damage, image_seeds

_LONGEST = 5.0  # seconds
_STARTS = ("subprocess.Popen", "os.system", "os.posix_spawn", "os.fork", "os.forkpty", "os.exec", "os.spawn")
_WRITES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree")
# Hooks stay for ever, so this one listens only while the list is there.
_seen = None


def _hook(event, arguments):
    if _seen is None:
        return
    if event in _STARTS or event in _WRITES:
        _seen.append((event, arguments))
    elif event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        _seen.append((event, arguments))


@pytest.fixture(scope="module")
def listen():
    sys.addaudithook(_hook)


@pytest.fixture(scope="module")
def seeds():
    return image_seeds.make()


def _resident():
    """Bytes of memory in use, with what the allocator keeps for later given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def _read(path):
    """Returns the outcome's name and the seconds of work it took."""
    global _seen
    begin, _seen = time.process_time(), []  # a busy machine is nobody's fault
    try:
        image = image_file.read(path)
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size
        outcome = "image"
    except image_file.ImageError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        outcome = "error"
    finally:
        seen, _seen = _seen, None
    assert not seen
    return outcome, time.process_time() - begin


def test_whole_pictures_are_read(tmp_path, seeds):
    for name, content in seeds.items():
        (tmp_path / name).write_bytes(content)
        assert _read(tmp_path / name)[0] == "image", name


def test_damaged_metadata_does_not_cost_the_picture(tmp_path, seeds):
    # Found in a file as it is, so damage inside leaves every length and pixel as it was.
    payloads = [image_seeds.exif()[6:], image_seeds.XMP]
    num_cases = 0
    for name, content in seeds.items():
        (tmp_path / name).write_bytes(content)
        image = image_file.read(tmp_path / name)
        turns = [np.rot90(side, turn) for side in (image, image[:, ::-1]) for turn in range(4)]
        for payload in payloads * 8:
            start = content.find(payload)
            if start < 0 or name.endswith("tif"):  # its EXIF begins with an offset
                continue
            rng, damaged = random.Random(f"{name} {num_cases}"), bytearray(content)
            for _ in range(rng.choice((1, 4, 16, 64))):
                damaged[start + rng.randrange(len(payload))] = rng.choice((0, 1, 255, rng.randrange(256)))
            (tmp_path / name).write_bytes(damaged)
            read = image_file.read(tmp_path / name)
            assert any(np.array_equal(read, turned) for turned in turns), name
            num_cases += 1
    assert num_cases > 50


def test_damaged_pictures_give_an_image_or_one_error(tmp_path, seeds, listen, fuzz_cases, capfd, caplog):
    names, counts, slowest, warm = sorted(seeds), {"image": 0, "error": 0}, (0.0, None), None
    for case in range(fuzz_cases):
        rng = random.Random(f"image {case}")
        name = names[case % len(names)]
        path = tmp_path / f"{case}-{name}"
        path.write_bytes(damage.damage(seeds[name], rng, seeds[rng.choice(names)]))
        outcome, seconds = _read(path)
        counts[outcome] += 1
        slowest = max(slowest, (seconds, path.name))
        path.unlink()
        if case == fuzz_cases // 2:
            warm = _resident()
    growth = _resident() / warm - 1
    assert capfd.readouterr() == ("", "") and not caplog.records
    with capfd.disabled():
        print(f"\n{fuzz_cases} damaged pictures: {counts}, slowest {slowest[0]:.1f} s, memory {growth:+.1%}")
    assert slowest[0] < _LONGEST, slowest
    assert growth < 0.05
    assert counts["image"] and counts["error"]
