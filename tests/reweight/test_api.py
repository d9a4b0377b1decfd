import subprocess
import sys
import textwrap

import torch

from toremi_cli import reweight


def test_the_loop_in_the_documentation_runs():
    loop = "\n".join(line for line in reweight.__doc__.splitlines() if line.startswith("    "))
    names = {
        **vars(reweight),
        "topics": ["a", "b"],
        "device": "cpu",
        "num_samples": 3,
        "sample_loss": torch.tensor([6.0, 2.0, 9.0], requires_grad=True),
        "sample_mass": torch.ones(3),
        "pair_sample": torch.tensor([0, 1]),
        "pair_topic": torch.tensor([0, 1]),
        "pair_prob": torch.ones(2),
        "step": 100,
        "stage": 1,
    }
    exec(textwrap.dedent(loop), names)
    names["loss"].backward()
    assert names["loss"].item() == 17 / 3
    assert names["device_weights"].tolist() == [1.5, 1.0]


def test_it_imports_torch_and_of_toremi_only_what_settings_are():
    program = (
        "import sys, toremi_cli.reweight\n"
        "ours = {m.split('.')[1] for m in sys.modules if m.startswith('toremi_cli.')}\n"
        "print(sorted(ours - {'reweight', 'settings', 'policy_config'}))\n"
        "print(sorted({'transformers', 'pyarrow', 'gensim', 'top2vec', 'sklearn'} & set(sys.modules)))\n"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert process.stdout == "[]\n[]\n"
