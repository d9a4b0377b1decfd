import csv
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import yaml
import zstandard

from tests.evaluate.workdirs import make_annotated
from tests.realtext import news_articles
from tests.runs.synthetic import make_recorded_run
from tests.shell import assert_one_line_error, call
from toremi_cli.commands.replay import policy_config
from toremi_cli.corpus.hashing import keyed_hash
from toremi_cli.errors import TableError, UsageError
from toremi_cli.export.config import CONFIGS
from toremi_cli.export.corpus import copies_of, write_corpus
from toremi_cli.export.formats import decimal, file_names, missing_data, render
from toremi_cli.export.shares import NO_LABEL, exact_shares, learnt_weights, mixture_of, static_mixture
from toremi_cli.export.shuffle import in_key_order
from toremi_cli.layout import Workdir
from toremi_cli.runs.history import read_history
from toremi_cli.runs.run import Run
from toremi_cli.schemas import WEIGHTS
from toremi_cli.tables import TableReader

TOPICS = ["Politics", "Sports", "People"]


@pytest.fixture
def workdir(tmp_path):
    make_annotated(tmp_path)
    make_recorded_run(tmp_path, "toremi-2", TOPICS)
    return tmp_path


@pytest.fixture
def history(workdir):
    return read_history(Run("toremi-2", workdir / "runs" / "toremi-2"))


def train_tokens():
    """Training tokens by source, as `make_annotated` counts them: document n is of source n % 3, split n // 3 % 3."""
    found = Counter()
    for number, text in enumerate(news_articles()[:45]):
        if number // 3 % 3 == 0:
            found[("paper", "radio", "wire")[number % 3]] += len(text.split())
    return found


def test_shares_are_tokens_times_weights(workdir, history):
    weights = learnt_weights(history, "final")
    mixture, _ = mixture_of(history, Workdir(workdir), "final")
    tokens = train_tokens()
    # 'paper' is Politics, 'radio' is Sports and People, 'wire' has no label
    expected = {
        "paper": tokens["paper"] * weights["Politics"],
        "radio": tokens["radio"] * (weights["Sports"] + weights["People"]) / 2,
        "wire": tokens["wire"],
    }
    total = sum(expected.values())
    assert mixture.shares("source") == pytest.approx({k: v / total for k, v in expected.items()})
    topics = mixture.shares("topic")
    assert topics["Sports"] == topics["People"] == pytest.approx(expected["radio"] / 2 / total)
    assert topics[NO_LABEL] == pytest.approx(expected["wire"] / total)
    assert sum(topics.values()) == pytest.approx(1)


def test_mean_weights_are_those_of_all_updates_by_their_tokens(history):
    courses = history.topics
    assert learnt_weights(history, "mean")["Politics"] == pytest.approx(courses.weight[:, 0].mean())
    courses.tokens[-1] += 3 * (courses.tokens[-1] - courses.tokens[-2])
    expected = (courses.weight[:, 0].sum() + 3 * courses.weight[-1, 0]) / (len(courses.steps) + 3)
    assert learnt_weights(history, "mean")["Politics"] == pytest.approx(expected)


def test_shares_sum_to_1_in_any_order_and_stay_positive():
    amounts = {f"topic {i}": 10.0 ** -(i % 18) * (1 + i / 7) for i in range(2000)} | {"none": 0.0}
    shares = exact_shares(amounts)
    printed = [float(decimal(share)) for share in shares.values()]
    assert printed == list(shares.values())
    for order in (printed, printed[::-1], sorted(printed)):
        added = 0.0
        for share in order:
            added += share
        assert added == 1.0 == np.sum(order)
    assert shares.pop("none") == 0.0 and min(shares.values()) > 0
    total = math.fsum(amounts.values())
    assert list(shares.values()) == pytest.approx([amounts[name] / total for name in shares], abs=2e-13)
    assert exact_shares({"all": 3.0}) == {"all": 1.0}


def test_uniform_weights_give_the_corpus_back(workdir):
    make_recorded_run(workdir, "uniform", TOPICS, policy="uniform")
    history = read_history(Run("uniform", workdir / "runs" / "uniform"))
    mixture, weigher = mixture_of(history, Workdir(workdir), "final")
    facts = write_corpus(mixture, weigher, workdir / "mix", 0, "parquet", 0)
    rows = ds.dataset(workdir / "mix", exclude_invalid_files=True).to_table().to_pylist()
    assert len(rows) == facts["copies"] == facts["samples"] == 15
    assert facts["tokens"] == sum(train_tokens().values())


def test_a_run_on_another_table_counts_that_table(workdir, history):
    table = ds.dataset(workdir / "annotated" / "part-00000.parquet").to_table()
    other = table.filter(ds.field("source") == "radio").replace_schema_metadata(None)
    pq.write_table(other, workdir / "other.parquet")
    record = json.loads((history.run.folder / "run.json").read_text())
    record["config"]["annotated"] = str(workdir / "other.parquet")
    (history.run.folder / "run.json").write_text(json.dumps(record))
    mixture, weigher = mixture_of(history, Workdir(workdir), "final")
    assert mixture.tokens == train_tokens()["radio"]
    assert mixture.shares("source") == {"radio": 1.0}
    write_corpus(mixture, weigher, workdir / "mix", 0, "parquet", 0)
    rows = ds.dataset(workdir / "mix", exclude_invalid_files=True).to_table(["source"]).to_pylist()
    assert {row["source"] for row in rows} == {"radio"}


def test_a_table_without_the_topics_of_the_run_is_not_passed_off_as_its_mixture(workdir, history, capsys):
    """As after clustering anew: shares of 1 everywhere would look like what the run found."""
    weights, folder = ds.dataset(history.run.folder / "weights").to_table(), history.run.folder / "weights"

    def learnt_of(rename):
        topics = [rename.get(name, name) for name in weights["topic"].to_pylist()]
        for part in folder.iterdir():
            part.unlink()
        at = weights.schema.get_field_index("topic")
        pq.write_table(weights.set_column(at, weights.schema.field(at), [topics]), folder / "part-00000.parquet")
        return read_history(history.run)

    some = learnt_of({"Sports": "Games"})
    mixture_of(some, Workdir(workdir), "final")
    warning = " ".join(capsys.readouterr().err.split())
    assert "has no sample of 1 of the 3 topics of run toremi-2, such as 'Games'" in warning
    assert "topics that the run didn't know weigh 1" in warning
    none = learnt_of({"Sports": "Games", "Politics": "Power", "People": "Persons"})
    with pytest.raises(TableError, match="no sample of 3 of the 3 topics of run toremi-2, such as 'Games'"):
        mixture_of(none, Workdir(workdir), "final")


def test_stratified_and_tempered_mixtures_need_no_run(workdir):
    place, tokens = Workdir(workdir), train_tokens()
    mixture, weigher = static_mixture(policy_config("stratified"), "labels", place)
    shares = mixture.shares("topic")
    unlabelled = tokens["wire"] / sum(tokens.values())
    labelled = {name: share for name, share in shares.items() if name != NO_LABEL}
    assert shares[NO_LABEL] == pytest.approx(unlabelled)
    assert labelled["Sports"] == labelled["People"] == pytest.approx(mixture.shares("source")["radio"] / 2)
    mixture, weigher = static_mixture(policy_config("temperature", ["temperature=2"]), "source", place)
    roots = {source: count**0.5 for source, count in tokens.items()}
    expected = {source: root / sum(roots.values()) for source, root in roots.items()}
    assert mixture.shares("source") == pytest.approx(expected) == mixture.shares("topic")
    facts = write_corpus(mixture, weigher, workdir / "mix", 0, "parquet", 0)
    assert facts["policy"] == "temperature" and facts["tokens"] == pytest.approx(mixture.tokens, rel=0.1)
    with pytest.raises(UsageError, match="its weights come of training; name a run, or one of uniform, stratified"):
        static_mixture(policy_config("odm"), "labels", place)


def test_lines_come_in_the_order_of_their_keys_whatever_fits(tmp_path):
    lines = [f"{keyed_hash('test', i):016x} {i} {'x' * (i % 50)}\n".encode() for i in range(3000)]
    whole = list(in_key_order(lines, tmp_path / "scratch"))
    assert whole == sorted(lines) != lines
    for memory in (400_000, 4_000):  # one level of files, two of them
        assert list(in_key_order(iter(lines), tmp_path / "scratch", memory)) == whole
    same_key = [b"0" * 16 + b" %d\n" % i for i in range(9)]
    assert list(in_key_order(same_key[::-1], tmp_path / "scratch", 100)) == same_key
    assert not any(tmp_path.iterdir())


def test_a_corpus_is_shuffled_in_small_row_groups(workdir, history):
    mixture, weigher = mixture_of(history, Workdir(workdir), "final")
    orders = []
    for seed in (0, 0, 1):
        facts = write_corpus(mixture, weigher, workdir / "mix", 400 * mixture.tokens, "parquet", seed)
        (shard,) = (pq.ParquetFile(path) for path in (workdir / "mix").glob("*.parquet"))
        orders.append(shard.read(["id", "source"]).to_pylist())
    groups = [shard.metadata.row_group(i).num_rows for i in range(shard.num_row_groups)]
    assert set(groups[:-1]) == {1024} and sum(groups) == facts["copies"]
    assert orders[0] == orders[1] != orders[2]
    half = Counter(row["source"] for row in orders[0][: len(orders[0]) // 2])
    whole = Counter(row["source"] for row in orders[0])
    assert all(half[source] == pytest.approx(count / 2, rel=0.1) for source, count in whole.items())
    assert sorted(path.name for path in (workdir / "mix").iterdir()) == ["_export.json", "part-00000.parquet"]


@pytest.mark.parametrize("file_format", ["parquet", "jsonl.zst"])
def test_a_folder_a_topic_named_as_the_configs_name_them(workdir, history, file_format):
    mixture, weigher = mixture_of(history, Workdir(workdir), "final")
    facts = write_corpus(mixture, weigher, workdir / "data", 40 * mixture.tokens, file_format, 3, "topic")
    streams = yaml.safe_load(render(mixture, "mosaicml", "topic", f"{workdir}/data/{{name}}"))["streams"]
    assert facts["by"] == "topic" and set(streams) == {*TOPICS, NO_LABEL}
    assert missing_data(mixture, "mosaicml", "topic", f"{workdir}/data/{{name}}") == []
    tokens = Counter()
    for name, stream in streams.items():
        for path in Path(stream["local"]).iterdir():
            if file_format == "parquet":
                rows = pq.read_table(path).to_pylist()
            else:
                rows = [json.loads(line) for line in zstandard.open(path, "rt", encoding="utf-8")]
            labels = {label for row in rows for label in row["labels"]}
            assert labels == set() if name == NO_LABEL else name in labels
            tokens[name] += sum(len(row["text"].split()) for row in rows)
    shares = {name: count / facts["tokens"] for name, count in tokens.items()}
    # samples of two topics are dealt out whole, so the few of this corpus meet the shares of the pair
    both = [found["Sports"] + found["People"] for found in (shares, mixture.shares("topic"))]
    assert both[0] == pytest.approx(both[1], rel=0.03)
    assert shares["Politics"] == pytest.approx(mixture.shares("topic")["Politics"], rel=0.03)


def test_runs_as_points_of_a_regression(workdir, history):
    make_recorded_run(workdir, "other", TOPICS, policy="uniform")
    process = call("export", "-w", workdir, "--to", "olmix", "--by", "topic", "-o", workdir / "swarm")
    assert process.returncode == 0, process.stderr
    ratios, metrics = (
        list(csv.DictReader((workdir / "swarm" / name).open())) for name in ("ratios.csv", "metrics.csv")
    )
    assert [row["run"] for row in ratios] == [row["run"] for row in metrics] == ["other", "toremi-2"]
    mixture, _ = mixture_of(history, Workdir(workdir), "mean")
    own = {name: float(value) for name, value in ratios[1].items() if name != "run"}
    assert own == mixture.shares("topic") and sum(own.values()) == 1
    bpb = {name: float(value) for name, value in metrics[1].items() if name != "run"}
    for domain in history.domains("eval_bits_per_byte"):
        assert bpb.pop(f"{domain}_bpb") == history.metrics["eval_bits_per_byte", domain].values[-1]
    assert not bpb
    assert sum(json.loads(process.stdout)["token_counts"].values()) == pytest.approx(mixture.tokens, abs=3)
    make_recorded_run(workdir, "third", TOPICS, domains=["elsewhere"])
    process = call("export", "-w", workdir, "--to", "olmix", "-o", workdir / "swarm")
    assert_one_line_error(process, "other and it don't both have")
    (workdir / "swarm" / "notes.txt").touch()
    process = call("export", "toremi-2", "-w", workdir, "--to", "olmix", "-o", workdir / "swarm")
    assert_one_line_error(process, "holds other files than ratios.csv and metrics.csv")


@pytest.mark.parametrize("file_format", ["parquet", "jsonl.zst"])
def test_a_resampled_corpus_meets_its_target_and_shares(workdir, history, file_format):
    mixture, weigher = mixture_of(history, Workdir(workdir), "final")
    target = 40 * mixture.tokens
    out = workdir / "mix"
    facts = write_corpus(mixture, weigher, out, target, file_format, 3)
    assert facts["tokens"] == pytest.approx(target, rel=0.02)
    if file_format == "parquet":
        rows = ds.dataset(sorted(out.glob("*.parquet"))).to_table().to_pylist()
    else:
        text = zstandard.open(out / "part-00000.jsonl.zst", "rt", encoding="utf-8").read()
        rows = [json.loads(line) for line in text.splitlines()]
    assert len({row["id"] for row in rows}) == len(rows) == facts["copies"]
    tokens = Counter()
    for row in rows:
        tokens[row["source"]] += len(row["text"].split())
    shares = {source: count / facts["tokens"] for source, count in tokens.items()}
    assert shares == pytest.approx(mixture.shares("source"), rel=0.03)
    again = write_corpus(mixture, weigher, out, target, file_format, 3)
    assert again == facts, "the same seed gives the same corpus"


def test_copies_are_drawn_by_hash_around_their_expectation():
    drawn = [copies_of(f"s{i}", 1.3, 0) for i in range(4000)]
    assert set(drawn) == {1, 2}
    assert sum(drawn) / 4000 == pytest.approx(1.3, abs=0.03)
    assert drawn == [copies_of(f"s{i}", 1.3, 0) for i in range(4000)]
    assert drawn != [copies_of(f"s{i}", 1.3, 1) for i in range(4000)]
    assert copies_of("s", 2.0, 0) == 2 and copies_of("s", 0.0, 0) == 0


def test_other_trainers_forms(workdir, history):
    mixture, _ = mixture_of(history, Workdir(workdir), "final")
    share = decimal(mixture.shares("source")["paper"])
    found = {form: render(mixture, form, "source", "bin/{name}") for form in CONFIGS}
    assert f"paper:\n    local: bin/paper\n    proportion: {share}" in found["mosaicml"]
    assert f"source_name: paper\n  target_ratio: {share}\n  paths:\n  - bin/paper" in found["olmo-core"]
    assert found["megatron"].startswith(f"--data-path {share} bin/paper ")
    assert "    - bin/paper\n" in found["nanotron"] and f"    - {share}\n" in found["nanotron"]
    assert "bin/no_topic" in render(mixture, "megatron", "topic", "bin/{name}")


def test_forms_are_valid_and_name_data_as_the_trainers_tools_leave_it(workdir, history):
    mixture, _ = mixture_of(history, Workdir(workdir), "final")
    shares = mixture.shares("source")
    found = {form: render(mixture, form, "source", "") for form in CONFIGS}
    streams = yaml.safe_load(found["mosaicml"])["streams"]
    assert {name: stream["proportion"] for name, stream in streams.items()} == shares
    assert streams["wire"]["local"] == "data/wire"
    sources = yaml.safe_load(found["olmo-core"])["sources"]
    assert {source["source_name"]: source["target_ratio"] for source in sources} == shares
    assert all(source["paths"] == [f"data/{source['source_name']}/*.npy"] for source in sources)
    dataset = yaml.safe_load(found["nanotron"])["data"]["dataset"]
    folders = [folder.removeprefix("data/") for folder in dataset["dataset_folder"]]
    assert dict(zip(folders, dataset["dataset_weights"], strict=True)) == shares
    flag, *words = found["megatron"].split()
    prefixes = [word.removeprefix("data/").removesuffix("_text_document") for word in words[1::2]]
    assert flag == "--data-path" and dict(zip(prefixes, map(float, words[::2]), strict=True)) == shares


def test_names_that_paths_cannot_tell_apart_get_paths_of_their_own():
    found = file_names(["a/b", "a:b", "A,B", "code", NO_LABEL])
    assert found["code"] == "code" and found[NO_LABEL] == "no_topic"
    assert len({path.lower() for path in found.values()}) == 5
    alike = [path.lower() for path in found.values() if path not in ("code", "no_topic")]
    assert all(path.startswith("a_b-") and len(path) == 12 for path in alike)


def test_command(workdir):
    process = call("export", "toremi-2", "-w", workdir)
    assert process.returncode == 0, process.stderr
    result = json.loads(process.stdout)
    assert {row["topic"] for row in result["topics"]} == {*TOPICS, NO_LABEL}
    assert sum(row["share"] for row in result["sources"]) == pytest.approx(1)
    process = call("export", "toremi-2", "-w", workdir, "--to", "yaml", "-o", workdir / "mix.yaml")
    assert process.returncode == 0, process.stderr
    assert yaml.safe_load((workdir / "mix.yaml").read_text()) == result
    stratified = ("export", "--policy", "stratified", "-w", workdir, "--to", "megatron", "--by", "topic")
    process = call(*stratified, "--data-path", workdir / "{name}")
    assert process.stdout.startswith("--data-path 0.")
    assert f"nothing is at {workdir}/no_topic.idx yet (4 such in all)" in process.stderr
    for part in ("People", "Politics", "Sports", "no_topic"):
        (workdir / f"{part}.idx").touch()
    assert call(*stratified, "--data-path", workdir / "{name}").stderr == ""
    process = call("export", "toremi-2", "-w", workdir, "--to", "corpus", "-o", workdir / "c", "--tokens", "20K")
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["tokens"] == pytest.approx(20_000, rel=0.1)


def test_a_table_of_mean_weights(workdir, history):
    path = workdir / "mean.parquet"
    process = call("export", "toremi-2", "-w", workdir, "--to", "weights", "--weights", "mean", "-o", path)
    assert process.returncode == 0, process.stderr
    expected = learnt_weights(history, "mean")
    rows = TableReader(path, WEIGHTS).read().to_pylist()
    assert {row["topic"]: row["weight"] for row in rows} == expected == json.loads(process.stdout)["topics"]
    assert {(row["step"], row["loss"], row["num_samples"]) for row in rows} == {(0, None, 0)}
    own = history.run.folder / "weights" / "mean.parquet"
    process = call("export", "toremi-2", "-w", workdir, "--to", "weights", "-o", own)
    assert_one_line_error(process, "would mix with what is there")
    assert not own.exists()


def test_wrong_arguments(workdir):
    for arguments, part in (
        (["--to", "xml"], "--to xml: expected one of json, yaml, weights, corpus, tokens, hf, olmix, mosaicml"),
        (["--weights", "best"], "--weights best: expected one of final, mean"),
        (["--to", "megatron", "--by", "colour"], "--by colour: expected one of source, topic"),
        (["--to", "megatron", "--data-path", "x"], "has no {name} in it"),
        (["other"], "--to json: one run, not 2; several are for --to olmix"),
        (["--to", "olmix"], "--to olmix: name its folder with --output"),
        (["--to", "corpus", "-o", "x", "--by", "colour"], "--by colour: expected one of source, topic"),
        (["--to", "corpus"], "name its folder with --output"),
        (["--to", "weights"], "--to weights: name its file with --output"),
        (["--to", "weights", "-o", str(workdir)], "expected the name of a Parquet file to write"),
        (["--to", "corpus", "-o", str(workdir)], "is not empty and no export of toremi"),
        (["--to", "corpus", "-o", "x", "--tokens", "many"], "--tokens many: expected a number"),
        (["--to", "corpus", "-o", "x", "--tokens", "0.5"], "--tokens 0.5: expected a number"),
    ):
        assert_one_line_error(call("export", "toremi-2", "-w", workdir, *arguments), part)
    for arguments, part in (
        ([], "name either a run or a policy"),
        (["--policy", "stratified", "--topics", "colour"], "--topics colour: expected one of labels"),
        (["--policy", "best"], "--policy best: expected one of uniform"),
        (["--policy", "stratified", "--to", "weights", "-o", "x"], "--to weights: a run's"),
    ):
        assert_one_line_error(call("export", "-w", workdir, *arguments), part)
