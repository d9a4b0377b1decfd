"""A plug-in: `toremi embed corpus/ --vectors trigrams`, `toremi pretrain --policy loudest`."""

from sklearn.feature_extraction.text import HashingVectorizer

from toremi_cli.reweight import Policy


class Loudest(Policy):
    """shares go as loss^eta: the highest losses are drawn most"""

    name = "loudest"
    acts_on = "sampling"
    reads = ("eta",)

    def _updated(self, losses, stats, stage):
        weights = losses.clamp_min(1e-6) ** self.config.eta
        weights = weights / weights[stats.seen].mean()
        return weights.where(stats.seen, self.weights)


class Trigrams:
    """Character trigrams by hash: nothing to learn, nothing to load."""

    name, needs_fit = "trigrams", False

    def __init__(self, *, model, dim, seed):
        self.dim = dim
        self.hashing = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 3), n_features=dim, dtype="float32")

    def fit(self, texts): ...

    def encode(self, texts):
        return self.hashing.transform(texts).toarray()

    def save(self, folder): ...

    @classmethod
    def load(cls, folder, description):
        return cls(model=None, dim=description["dim"], seed=0)
