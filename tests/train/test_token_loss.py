"""Token losses and sensitivities: the same numbers and gradients as by the plain way."""

from __future__ import annotations

import pytest
import torch
from accelerate import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from toremi_cli.reweight import other_tokens
from toremi_cli.train import token_loss
from toremi_cli.train.cross_entropy import token_cross_entropy
from toremi_cli.train.token_loss import TokenLoss, chunk_logits, compute_losses_in_forward


def gpt2():
    torch.manual_seed(0)
    no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=128, n_positions=16, n_embd=16, n_layer=2, n_head=2, **no_dropout))


def llama():
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=128, max_position_embeddings=16, **shape))


def batch():
    torch.manual_seed(1)
    return torch.randint(0, 128, (3, 8)), torch.randint(0, 128, (3, 8)), torch.rand(3, 8)


def test_cross_entropy_equals_torch():
    torch.manual_seed(0)
    logits, targets, factors = torch.randn(20, 50) * 4, torch.randint(0, 50, (20,)), torch.rand(20)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    others = torch.stack((targets.roll(1), targets.roll(2)), dim=1)
    a, shuffled = token_cross_entropy(ours, targets, others)
    b = functional.cross_entropy(theirs, targets, reduction="none")
    (a * factors).sum().backward()
    (b * factors).sum().backward()
    torch.testing.assert_close(a, b)
    for ours_of, partner in zip(shuffled.T, others.T, strict=True):
        torch.testing.assert_close(ours_of, functional.cross_entropy(logits, partner, reduction="none"))
    assert not shuffled.requires_grad
    torch.testing.assert_close(ours.grad, theirs.grad)


OPTIONS = [
    {},
    {"sensitivity": True},
    {"chunked": True},
    {"chunked": True, "sensitivity": True},
]


@pytest.mark.parametrize("make", [gpt2, llama])
def test_accelerate_makes_each_block_a_unit_of_its_own(make):
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
    losses = TokenLoss(make())
    plugin.set_auto_wrap_policy(losses)
    is_unit = fsdp2_prepare_auto_wrap_policy(plugin, losses)
    body = losses.model.base_model
    blocks = body.h if make is gpt2 else body.layers
    assert [module for module in losses.modules() if is_unit(module)] == list(blocks)


def test_chunks_grow_with_the_gpu():
    sizes = [chunk_logits(gib * 2**30) for gib in (0, 4, 24, 80, 140)]
    assert sizes == [2**25, 2**25, 24 * 2**22, 80 * 2**22, 2**29]


def test_chunks_of_a_bf16_head_add_up_their_gradients_in_float32(monkeypatch):
    """As under FSDP, whose parameters are bf16 while they are used: 1 added 2,000 times in bf16 comes to 256."""
    torch.manual_seed(0)
    head, hidden, targets = torch.nn.Linear(4, 8, bias=False), torch.rand(1, 2000, 4), torch.zeros(1, 2000).long()
    head(hidden).flatten(0, 1).log_softmax(-1)[:, 0].neg().sum().backward()
    short = torch.nn.Linear(4, 8, bias=False)
    short.load_state_dict(head.state_dict())
    short = short.bfloat16()
    compute_losses_in_forward(short)
    monkeypatch.setattr(token_loss, "CHUNK_LOGITS", 16)
    losses, _ = short(hidden.bfloat16(), targets, targets.view(-1, 1))
    assert losses.dtype == torch.float32
    losses.sum().backward()
    torch.testing.assert_close(short.weight.grad.float(), head.weight.grad, rtol=0.02, atol=0.1)


@pytest.mark.parametrize("make", [gpt2, llama])
@pytest.mark.parametrize("options", OPTIONS)
def test_losses_and_gradients_equal_the_plain_way(make, options):
    inputs, targets, factors = batch()
    plain, wrapped = make(), make()
    logits = plain(input_ids=inputs).logits
    expected = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(3, 8)
    (expected * factors).sum().backward()
    losses = TokenLoss(wrapped, **options)(inputs, targets)
    (losses * factors).sum().backward()
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)
    for (name, a), b in zip(wrapped.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("make", [gpt2, llama])
def test_chunked_losses_equal_those_of_whole_logits_also_in_bf16(make, monkeypatch):
    monkeypatch.setattr(token_loss, "CHUNK_LOGITS", 128 * 5, raising=False)  # five tokens at a time
    inputs, targets, factors = batch()
    found = []
    for chunked in (False, True):
        model = make()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = TokenLoss(model, chunked=chunked)(inputs, targets)
        (losses * factors).sum().backward()
        found.append((losses, [p.grad for p in model.parameters()]))
    (plain, gradients), (chunked, others) = found
    assert plain.dtype == chunked.dtype == torch.float32
    torch.testing.assert_close(chunked, plain, rtol=1e-6, atol=1e-6)
    exact = TokenLoss(make())(inputs, targets)
    assert not torch.allclose(plain, exact, rtol=1e-6, atol=1e-6)  # bf16 it is
    for a, b in zip(others, gradients, strict=True):
        assert float((a - b).norm() / b.norm()) < 2**-7


def test_sensitivity_is_the_norm_of_the_last_hidden_states_gradient():
    inputs, targets, factors = batch()
    model = gpt2()
    hidden = model.transformer(input_ids=inputs)[0].detach().requires_grad_()
    losses = functional.cross_entropy(model.lm_head(hidden).flatten(0, 1), targets.flatten(), reduction="none")
    (losses * factors.flatten()).sum().backward()
    wrapped = TokenLoss(gpt2(), sensitivity=True)
    (wrapped(inputs, targets) * factors).sum().backward()
    torch.testing.assert_close(wrapped.token_sensitivity, hidden.grad.norm(dim=-1), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("make", [gpt2, llama])
@pytest.mark.parametrize("chunked", [False, True])
def test_masked_documents_know_nothing_of_their_neighbours(make, chunked):
    inputs, targets, _ = batch()
    segment = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1], [2, 3, 3, 3, 3, 4, 4, 4], [5, 5, 5, 5, 5, 5, 5, 5]])
    wrapped = TokenLoss(make(), mask_documents=True, chunked=chunked)
    losses = wrapped(inputs, targets, segment.flatten())
    plain = TokenLoss(make(), chunked=chunked)
    for sample in range(6):
        own = segment == sample
        alone = plain(inputs[own].unsqueeze(0), targets[own].unsqueeze(0))
        torch.testing.assert_close(losses[own], alone.squeeze(0), rtol=1e-4, atol=1e-5)
    seen = plain(inputs, targets)
    assert not torch.allclose(losses[segment == 1], seen[segment == 1], rtol=1e-3)  # without the mask they do


@pytest.mark.parametrize("options", [{"mask_documents": True}, {"sensitivity": True}, {"chunked": True}])
def test_options_bear_gradient_checkpointing(options):
    inputs, targets, factors = batch()
    segment = (torch.arange(24) // 5).view(3, 8).flatten()
    gradients = []
    for checkpointing in (False, True):
        model = gpt2().train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        wrapped = TokenLoss(model, **options)
        (wrapped(inputs, targets, segment) * factors).sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("make", [gpt2, llama])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("words", [False, True])
def test_shuffled_losses_are_those_of_other_tokens_of_the_segment(make, chunked, words, monkeypatch):
    monkeypatch.setattr(token_loss, "CHUNK_LOGITS", 128 * 5, raising=False)  # five tokens at a time
    inputs, targets, _ = batch()
    segment = torch.tensor([0] * 8 + [1] * 3 + [2] * 5 + [3] * 7 + [4])
    beginnings = torch.arange(128) % 3 == 0 if words else None
    wrapped = TokenLoss(make(), chunked=chunked, word_beginnings=beginnings)
    losses = wrapped(inputs, targets, segment)
    log_probs = torch.log_softmax(make()(input_ids=inputs).logits.detach(), dim=-1).flatten(0, 1)
    begins = beginnings[targets.flatten()] if words else torch.ones(24, dtype=torch.bool)
    others = targets.flatten()[other_tokens(segment, 8, begins)]
    expected = -log_probs.gather(1, others)
    torch.testing.assert_close(wrapped.shuffled_losses, expected, rtol=1e-4, atol=1e-5)
    assert (wrapped.shuffled_losses[23] == losses[2, 7]).all()  # a token alone has no other
    assert not torch.allclose(wrapped.shuffled_losses[:, 0], losses.flatten(), atol=0.1)
    assert not wrapped.shuffled_losses.requires_grad
