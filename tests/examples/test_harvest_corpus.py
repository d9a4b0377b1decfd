import json
import runpy
import subprocess
import sys
from pathlib import Path

PIECES = {"encyclopaedia", "numeric_docs", "learning_docs", "licences"}
SCRIPT = Path(__file__).parents[2] / "examples" / "harvest_corpus.py"


def test_ten_megabytes_of_real_text_from_six_domains_or_more(tmp_path):
    process = subprocess.run([sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    files = sorted(tmp_path.glob("*.jsonl"))
    assert len(files) >= 6
    ids, num_bytes = set(), 0
    for file in files:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        assert len(rows) >= 20, file
        assert {row["source"] for row in rows} == {file.stem}
        assert len({row["text"] for row in rows}) == len(rows)
        ids |= {row["id"] for row in rows}
        groups = {row["group"] for row in rows}
        assert len(groups) < 0.7 * len(rows) if file.stem in PIECES else len(groups) == len(rows)
        num_bytes += sum(len(row["text"].encode()) for row in rows)
        assert f"{file.stem:<16}{len(rows):>10,}" in process.stdout
    assert num_bytes >= 10_000_000
    assert len(ids) == sum(len(f.read_text(encoding="utf-8").splitlines()) for f in files)


def test_no_two_licences_share_an_id_however_many_are_taken():
    """Which of them reach the corpus depends on what else is installed: it is cut off at some size."""
    ids = [name for name, _ in runpy.run_path(str(SCRIPT))["licences"]()]
    assert len(set(ids)) == len(ids) > 100
