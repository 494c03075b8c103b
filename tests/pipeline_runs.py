"""What tests of the pipeline share: its programs, and the samples of what they wrote."""

import numpy as np

from tests import forked


def command(module, root, *flags):
    return forked.run("-m", f"data_pipeline.{module}", *flags, cwd=root)


def parsed(opened):
    samples = [opened.parse(item) for _, item in opened.in_order(1, 0)]
    return {sample["image_name"].numpy().decode(): {k: v.numpy() for k, v in sample.items()} for sample in samples}


def assert_equal(samples, others):
    assert samples.keys() == others.keys() and samples
    for name, sample in samples.items():
        for key, value in sample.items():
            np.testing.assert_array_equal(value, others[name][key], err_msg=f"{name} {key}")


def copy(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path
