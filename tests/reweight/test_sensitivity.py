import pytest
import torch

from toremi_cli.reweight import el2n_squared, norm_layer_gradient_norm, segment_mean


@pytest.fixture
def stream():
    return torch.Generator().manual_seed(0)


def test_el2n_is_the_gradient_at_the_logits(stream):
    logits = (3 * torch.randn(50, 17, generator=stream, dtype=torch.float64)).requires_grad_()
    target = torch.randint(17, (50,), generator=stream)
    loss = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    expected = gradient.square().sum(1)
    assert torch.allclose(el2n_squared(logits, loss), expected, atol=1e-12)
    assert torch.allclose(el2n_squared(logits, loss, logits.logsumexp(1)), expected, atol=1e-12)


def test_el2n_of_a_sure_model_is_0_and_of_a_wrong_one_2():
    logits = torch.tensor([[100.0, 0.0], [0.0, 100.0]])
    loss = torch.tensor([0.0, 100.0])
    assert el2n_squared(logits, loss).tolist() == pytest.approx([0.0, 2.0])


@pytest.mark.parametrize("has_bias", [True, False])
def test_norm_layer_gradient_equals_autograd_sample_by_sample(stream, has_bias):
    width, lengths = 8, [3, 1, 5]
    segment = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))
    layer = torch.nn.LayerNorm(width) if has_bias else torch.nn.RMSNorm(width, eps=1e-5)
    head = torch.nn.Linear(width, 11)
    hidden = torch.randn(sum(lengths), width, generator=stream)
    target = torch.randint(11, (sum(lengths),), generator=stream)
    captured = {}

    def token_loss():
        output = layer(hidden)
        output.retain_grad()
        captured["output"] = output
        return torch.nn.functional.cross_entropy(head(output), target, reduction="none")

    expected = []
    for k in range(3):
        grads = torch.autograd.grad(token_loss()[segment == k].sum(), list(layer.parameters()))
        expected.append(torch.cat([g.flatten() for g in grads]).norm().item())
    token_loss().sum().backward()
    normalized = torch.nn.functional.layer_norm(hidden, (width,)) if has_bias else layer(hidden) / layer.weight
    found = norm_layer_gradient_norm(captured["output"].grad, normalized, segment, 3, has_bias=has_bias)
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


def test_segment_mean():
    values, segment = torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 2])
    assert segment_mean(values, segment, 4).tolist() == [2.0, 0.0, 5.0, 0.0]
