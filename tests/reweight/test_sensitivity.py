import torch

from toremi_cli.reweight import segment_mean


def test_segment_mean():
    values, segment = torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 2])
    assert segment_mean(values, segment, 4).tolist() == [2.0, 0.0, 5.0, 0.0]
