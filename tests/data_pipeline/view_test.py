import numpy as np
import PIL.Image
import pytest

from tests import pipeline_runs


@pytest.mark.slow
def test_view_writes_pictures(folder, tmp_path, request):
    flags = [f"--images={folder}", f"--annotations={folder / 'label.txt'}", f"--output={tmp_path / 'out'}"]
    done = pipeline_runs.command(
        "view",
        request.config.rootpath,
        *flags,
        "--set=zoom_out_probability=0",
        "--num=4",
        "--panel=96",
    )
    assert done.returncode == 0, done.stderr
    pictures = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in pictures] == [f"sample_00{index}.png" for index in range(4)]
    drawn = []
    for path in pictures:
        with PIL.Image.open(path) as file:
            image = np.asarray(file).astype(int)
        assert image.shape[0] == 96 and image.shape[1] % 96 == 0
        # Boxes are green on the first panel, anchors orange on the others; a crop may have lost all its faces.
        has_box = (np.abs(image[:, :96] - [0, 220, 0]).sum(-1) < 90).any()
        has_anchor = (np.abs(image[:, 96:] - [255, 150, 0]).sum(-1) < 60).any()
        drawn.append((has_box, has_anchor, image.shape[1] > 96))
    assert all(has_box or not has_anchor for has_box, has_anchor, _ in drawn)
    assert all(has_anchor == has_panel for _, has_anchor, has_panel in drawn) and sum(row[1] for row in drawn) >= 2
