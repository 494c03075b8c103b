import subprocess
import sys

import cv2
import pytest


@pytest.mark.slow
def test_draws_samples_with_faces_and_anchors(photos, tmp_path):
    command = [sys.executable, "-W", "ignore", "-m", "data_pipeline.view", f"--output={tmp_path}", "--num=2"]
    command += [f"--images={photos}", f"--annotations={photos / 'label.txt'}", "--panel=200"]
    run = subprocess.run(command + ["--set=photometric_probability=0"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for index in range(2):
        image = cv2.imread(str(tmp_path / f"sample_{index:03d}.png"))[..., ::-1].astype(int)
        # At least one level beside the sample, with boxes in their colours.
        assert image.shape[0] == 200 and image.shape[1] >= 400 and image.shape[1] % 200 == 0
        red, green, blue = image[:, :200].transpose(2, 0, 1)
        assert ((green > 190) & (red < 60) & (blue < 60)).sum() > 40
        red, green, blue = image[:, 200:].transpose(2, 0, 1)
        assert ((red > 220) & (abs(green - 150) < 40) & (blue < 60)).sum() > 40
