import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from toremi_cli.errors import UsageError
from toremi_cli.sample_topics import SampleTopics
from toremi_cli.schemas import TOPICS

ROW = {"source": "web", "labels": ["Law", "Sports", "Law"], "topic": 1}
BARE = {"source": "web", "labels": None, "topic": -1}


@pytest.fixture
def table(tmp_path):
    """Names of topics 0 and 1; the table knows no others."""
    rows = [{"topic": k, "name": name, "sources": []} for k, name in enumerate(("court", "match"))]
    pq.write_table(pa.Table.from_pylist(rows, schema=TOPICS.arrow_schema()), tmp_path / "topics.parquet")
    return tmp_path / "topics.parquet"


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("source", {"web": 1.0}),
        ("labels", {"Law": 0.5, "Sports": 0.5}),
        ("fine", {"match": 1.0}),
    ],
)
def test_topics_of_a_sample(table, mode, expected):
    topics = SampleTopics(mode, table)
    assert topics.of({key: ROW[key] for key in topics.columns}) == pytest.approx(expected)
    assert topics.of(BARE) == ({"web": 1.0} if mode == "source" else {})


def test_without_a_table_topics_have_numbers(tmp_path):
    assert SampleTopics("fine", tmp_path / "none.parquet").of(ROW) == {"topic-1": 1.0}


def test_a_way_of_an_earlier_version_is_refused(table):
    with pytest.raises(UsageError, match="topics by 'soft': expected one of labels, fine, source"):
        SampleTopics("soft", table)
