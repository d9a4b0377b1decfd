"""Document masking without a mask: the numbers of a dense one, by whichever way."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from torch import library
from torch.nn import functional
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from tests.train.both_ranks import config
from tests.train.test_loss import builder
from tests.train.test_no_sync import no_sync
from toremi_cli.train import document_attention, documents
from toremi_cli.train.attention import attend_without_waiting
from toremi_cli.train.device import make_accelerator
from toremi_cli.train.document_attention import Heads, choose_attention, layers_of, tried_lengths, why_it_is_not_used
from toremi_cli.train.documents import DENSE, GROUPS, STRETCHES, Groups, Stretches
from toremi_cli.train.loader import prefetch
from toremi_cli.train.loop import set_learning_rate, train_step
from toremi_cli.train.run import assemble
from toremi_cli.train.shapes import PRESETS
from toremi_cli.train.token_loss import TokenLoss

CPU = torch.device("cpu")
ROW = 24
LENGTHS = np.array([1, 9, 14, 24, 3, 3, 18])
HEADS = Heads(queries=3, keys=1, width=8, scaling=8**-0.5, dropout=0.0)


def gpt2(**settings):
    torch.manual_seed(0)
    shape = {"n_positions": ROW, "n_embd": 16, "n_layer": 2, "n_head": 2, "resid_pdrop": 0, "embd_pdrop": 0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=128, **{**shape, "attn_pdrop": 0, **settings}))


def of_preset(name):
    """A preset's architecture at a few of its parameters."""
    torch.manual_seed(0)
    config = PRESETS[name].transformers_config(ROW, 0.02)
    config.vocab_size, config.num_hidden_layers = 128, 2
    return AutoModelForCausalLM.from_config(config)


MODELS = {"gpt2": gpt2, "scaled": lambda: gpt2(scale_attn_by_inverse_layer_idx=True), "1m": lambda: of_preset("1m")}


@contextlib.contextmanager
def a_kernel_on_the_cpu():
    """torch has its variable-length kernel on GPUs only: the same operation, document by document, for the CPU."""

    def forward(q, k, v, bounds, _bounds, _most, _most_k, dropout, causal, _debug, *, scale=None, **_options):
        assert causal and not dropout
        found = torch.cat([one(*x, scale) for x in parts(bounds, q, k, v)])
        nothing = q.new_zeros(2)
        return found, q.new_zeros(q.shape[1], q.shape[0], dtype=torch.float32), nothing, nothing, nothing

    def backward(grad, q, k, v, _out, _lse, bounds, *_more, scale=None, **_options):
        found = [gradients(*x, scale) for x in parts(bounds, grad, q, k, v)]
        return tuple(torch.cat(x) for x in zip(*found, strict=True))

    def parts(bounds, *tensors):
        return zip(*(x.split(bounds.diff().tolist()) for x in tensors), strict=True)

    def weights(q, k, scale):
        """(heads, n, n) of a document's query and key (heads, n, width)."""
        scores = q @ k.mT * (scale or q.shape[-1] ** -0.5)
        return scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf).softmax(-1)

    def by_head(*tensors):
        heads = tensors[0].shape[1]
        return (x.repeat_interleave(heads // x.shape[1], dim=1).transpose(0, 1) for x in tensors)

    def one(q, k, v, scale):
        q, k, v = by_head(q, k, v)
        return (weights(q, k, scale) @ v).transpose(0, 1)

    def gradients(grad, q, k, v, scale):
        keys = k.shape[1]
        grad, q, k, v = by_head(grad, q, k, v)
        seen, of_seen = weights(q, k, scale), grad @ v.mT
        of_scores = seen * (of_seen - (of_seen * seen).sum(-1, keepdim=True)) * (scale or q.shape[-1] ** -0.5)
        of_keys = (x.unflatten(0, (keys, -1)).sum(1) for x in (of_scores.mT @ q, seen.mT @ grad))
        return tuple(x.transpose(0, 1) for x in (of_scores @ k, *of_keys))

    kernels = library.Library("aten", "IMPL")
    kernels.impl("_flash_attention_forward", forward, "CPU")
    kernels.impl("_flash_attention_backward", backward, "CPU")
    try:
        yield
    finally:
        kernels._destroy()


@pytest.mark.parametrize("lengths", [[5], [1] * 7, [64, 3, 17, 64, 1, 40], [1, 2, 3, 4, 5, 6, 7, 8, 9]])
def test_groups_hold_each_token_once_among_its_own_document(lengths):
    lengths = np.array(lengths)
    groups = Groups.of(lengths)
    assert groups.padded[groups.places].equal(torch.arange(lengths.sum()))
    document = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths))
    seen = []
    for (count, longest), tokens in zip(
        groups.shapes, groups.padded.split([n * m for n, m in groups.shapes]), strict=True
    ):
        for row in tokens.view(count, longest):
            (own,) = document[row].unique().tolist()
            length = int(lengths[own])
            begin = int(lengths[:own].sum())
            assert row[:length].equal(torch.arange(begin, begin + length)) and (row[length:] == row[length - 1]).all()
            assert length * documents.LONGEST_OVER_SHORTEST >= longest
            seen.append(own)
    assert sorted(seen) == list(range(len(lengths)))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("way", [Groups, Stretches])
@pytest.mark.parametrize("options", [{}, {"chunked": True, "sensitivity": True}])
def test_losses_and_gradients_are_those_of_a_dense_mask(name, way, options):
    torch.manual_seed(1)
    inputs, targets = torch.randint(0, 128, (2, 3, ROW))
    segment = torch.from_numpy(np.repeat(np.arange(len(LENGTHS)), LENGTHS))
    factors, found = torch.rand(3, ROW), []
    for given in (None, way.of(LENGTHS)):
        model = MODELS[name]()
        attend_without_waiting(model)
        if given is not None:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        losses = TokenLoss(model.train(), mask_documents=True, **options)
        with a_kernel_on_the_cpu() if way is Stretches else contextlib.nullcontext():
            values = losses(inputs, targets, segment, given)
            (values * factors).sum().backward()
        found.append((values, [p.grad for p in model.parameters()]))
    (dense, gradients), (other, others) = found
    torch.testing.assert_close(other, dense, rtol=1e-5, atol=1e-6)
    for a, b in zip(others, gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("takes", [{"is_causal"}, {"window_size", "scale"}])
@pytest.mark.parametrize("heads", [HEADS, Heads(2, 2, 8, 0.1, 0.0)])
def test_an_older_torchs_function_gives_the_same(takes, heads, monkeypatch):
    """torch 2.10 has `is_causal`, 2.11 `window_size` and `scale`; neither knows grouped keys."""

    def older(query, key, value, bounds, bounds_k, most, most_k, **options):
        assert set(options) == takes and query.shape == key.shape and query.is_contiguous()
        assert options.get("is_causal", True) is True and options.get("window_size", (-1, 0)) == (-1, 0)
        assert bounds.dtype == bounds_k.dtype == torch.int32 and most == most_k
        parts = zip(*(x.split(bounds.diff().tolist()) for x in (query, key, value)), strict=True)
        attend = functional.scaled_dot_product_attention
        scale = options.get("scale")
        return torch.cat(
            [
                attend(*(x.transpose(0, 1)[None] for x in p), is_causal=True, scale=scale)[0].transpose(0, 1)
                for p in parts
            ]
        )

    monkeypatch.setattr(documents, "varlen_attn", older)
    monkeypatch.setattr(documents, "VARLEN_TAKES", frozenset(takes))
    assert why_it_is_not_used(Stretches.of, heads, 64, torch.float32, CPU) == ""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("way", [Groups, Stretches])
def test_a_way_bears_itself_out(way, dtype):
    with a_kernel_on_the_cpu():
        assert why_it_is_not_used(way.of, HEADS, 64, dtype, CPU) == ""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "wrong",
    [
        lambda lengths: Groups.of(np.array([lengths.sum()])),  # sees all before
        lambda lengths: Groups.of(np.append(lengths[:-2], [lengths[-2] - 1, lengths[-1] + 1])),  # one token astray
    ],
)
def test_a_way_that_lets_documents_see_each_other_is_found_out(wrong, dtype):
    assert why_it_is_not_used(wrong, HEADS, 64, dtype, CPU).startswith("outputs differ by")


def test_a_kernel_that_is_not_there_says_why():
    assert "_flash_attention_forward" in why_it_is_not_used(Stretches.of, HEADS, 64, torch.float32, CPU)
    dropping = Heads(3, 1, 8, None, 0.1)
    with a_kernel_on_the_cpu():
        assert "dropout" in why_it_is_not_used(Stretches.of, dropping, 64, torch.float32, CPU)
    assert why_it_is_not_used(Groups.of, dropping, 64, torch.float32, CPU) == ""


@pytest.mark.parametrize("row_length", [1, 2, 3, 16, 512])
def test_the_tried_documents_fill_two_rows(row_length):
    lengths = tried_lengths(row_length)
    assert lengths.min() >= 1 and lengths.sum() == 2 * row_length and row_length in np.cumsum(lengths)


def test_the_choice_follows_rows_compilation_and_model():
    model = of_preset("1m")
    attend_without_waiting(model)
    assert layers_of(model) == ("", [Heads(3, 1, 32, 32**-0.5, 0.0)] * 2)
    assert choose_attention(model, 511, torch.float32, CPU) == (DENSE, "")
    assert choose_attention(model, 512, torch.float32, CPU, compiles=True) == (DENSE, "")
    assert choose_attention(model, 512, torch.float32, CPU) == (GROUPS, "")


def test_a_model_with_attention_of_its_own_keeps_the_mask_and_says_so():
    config = MistralConfig(
        vocab_size=128, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, sliding_window=4,
    )  # fmt: skip
    model = MistralForCausalLM(config)
    attend_without_waiting(model)
    name, note = choose_attention(model, 512, torch.float32, CPU)
    assert name == DENSE
    assert note.startswith("--mask-documents: attention takes a dense mask (MistralForCausalLM doesn't use")


@pytest.mark.parametrize("kind", [GROUPS, STRETCHES])
def test_the_loader_knows_where_the_documents_lie(cache, kind):
    loader = builder(cache, micro_steps=2)
    loader.documents = kind
    for batch in loader.next_batch().micro_batches:
        lengths = np.bincount(batch.segment)
        expected = {GROUPS: Groups, STRETCHES: Stretches}[kind].of(lengths)
        for found in (batch.documents, batch.packed().documents):
            assert type(found) is type(expected)
            for name, value in vars(expected).items():
                there = getattr(found, name)
                assert there.equal(value) if isinstance(value, torch.Tensor) else there == value
    loader.documents = DENSE
    assert loader.next_batch().micro_batches[0].documents is None


def test_a_run_in_groups_is_one_with_a_mask_and_waits_for_nothing(workdir, cache, monkeypatch):
    found = []
    for shortest in (1, 10_000):
        monkeypatch.setattr(document_attention, "SHORTEST_ROWS_IN_GROUPS", shortest)
        run_config = config(workdir, "toremi-2", "documents", mask_documents=True)
        run, _ = assemble(run_config, make_accelerator(run_config, workdir), cache, resume=False)
        assert run.builder.documents == (GROUPS if shortest == 1 else DENSE) and run.documents_note == ""
        batches = prefetch(run.builder, range(5), lambda step: True)
        set_learning_rate(run, 1.0)
        for _ in range(2):
            train_step(run, next(batches))
        batch = next(batches)
        with no_sync(run.device):
            train_step(run, batch)
        found.append([p.detach() for p in run.model.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
