import subprocess
import sys


def test_it_imports_torch_and_of_toremi_only_what_settings_are():
    program = (
        "import sys, toremi_cli.reweight\n"
        "ours = {m.split('.')[1] for m in sys.modules if m.startswith('toremi_cli.')}\n"
        "print(sorted(ours - {'plugins', 'reweight', 'settings', 'policy_config'}))\n"
        "print(sorted({'transformers', 'pyarrow', 'gensim', 'top2vec', 'sklearn'} & set(sys.modules)))\n"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert process.stdout == "[]\n[]\n"
