import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from toremi_cli.lm.perplexity import score_samples, windows_of

BOS = 0
VOCAB = 61


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    config = GPT2Config(
        vocab_size=VOCAB, n_positions=16, n_embd=24, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    config.initializer_range = 0.5  # far from uniform, so that a wrong context shows
    return GPT2LMHeadModel(config)


@pytest.fixture(scope="module")
def samples():
    generator = torch.Generator().manual_seed(5)
    lengths = [1, 16, 17, 5, 0, 40, 33, 15, 2]
    return [torch.randint(1, VOCAB, (n,), generator=generator).tolist() for n in lengths]


def naive(model, tokens, context_length, stride):
    """One forward pass a token, its context found by hand."""
    model.eval()
    whole = [BOS, *tokens]
    total = 0.0
    for position in range(1, len(whole)):
        if stride is None:
            begin = (position - 1) // context_length * context_length
        elif position <= context_length:
            begin = 0
        else:
            group = (position - context_length - 1) // stride
            begin = min(context_length + (group + 1) * stride, len(tokens)) - context_length
        with torch.no_grad():
            logits = model(torch.tensor([whole[begin:position]])).logits[0, -1].double()
        total -= torch.log_softmax(logits, -1)[whole[position]].item()
    return total


@pytest.mark.parametrize("context_length", [16, 7])
@pytest.mark.parametrize("stride", [None, 1, 3, 7])
@pytest.mark.parametrize("batch_tokens", [16384, 20, 1])
def test_equals_a_loop_over_tokens(model, samples, context_length, stride, batch_tokens):
    nats, counts = score_samples(
        model,
        samples,
        bos_id=BOS,
        context_length=context_length,
        device="cpu",
        batch_tokens=batch_tokens,
        stride=stride,
    )
    assert counts.tolist() == [len(s) for s in samples]
    expected = [naive(model, s, context_length, stride) for s in samples]
    assert nats.dtype == torch.float64
    torch.testing.assert_close(nats, torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stride", [None, 1, 2, 5])
@pytest.mark.parametrize("num_tokens", range(24))
def test_windows_count_every_token_once(num_tokens, stride):
    windows = list(windows_of(0, num_tokens, 5, stride))
    assert [t for w in windows for t in range(w.first, w.end)] == list(range(num_tokens))
    assert all(w.start <= w.first < w.end and w.length <= 5 for w in windows)
    if stride is not None:
        assert all(w.length == min(5, w.end) for w in windows), "as much context as fits"


def test_no_samples_and_only_empty_samples(model):
    nats, counts = score_samples(model, [], bos_id=BOS, context_length=16, device="cpu")
    assert nats.shape == counts.shape == (0,)
    nats, counts = score_samples(model, [[], []], bos_id=BOS, context_length=16, device="cpu")
    assert nats.tolist() == [0.0, 0.0] and counts.tolist() == [0, 0]


def test_the_models_mode_is_kept_and_dropout_is_off(model, samples):
    for training in (True, False):
        model.train(training)
        first, _ = score_samples(model, samples, bos_id=BOS, context_length=16, device="cpu")
        second, _ = score_samples(model, samples, bos_id=BOS, context_length=16, device="cpu")
        assert model.training is training
        assert torch.equal(first, second)
    model.eval()


def test_progress_counts_tokens(model, samples):
    seen = []
    score_samples(
        model, samples, bos_id=BOS, context_length=7, device="cpu", batch_tokens=30, stride=3, on_progress=seen.append
    )
    assert len(seen) > 1 and sum(seen) == sum(map(len, samples))


def test_a_stride_beyond_the_context_is_refused(model):
    with pytest.raises(ValueError, match="stride is 17, expected 1 to 16"):
        score_samples(model, [[1]], bos_id=BOS, context_length=16, device="cpu", stride=17)
