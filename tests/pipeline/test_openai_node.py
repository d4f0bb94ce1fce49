"""Node's openai package against a cluster of two workers: openai_suite.mjs, which needs the npm
packages that tests/run puts into build/node."""

import re
import shutil
import subprocess

import pytest

import scripted_model
from cluster import HERE, ROOT, Cluster
from test_openai_suite import SCRIPTS

FOLDER = ROOT / "build" / "node"


def test_suite(home):
    if not shutil.which("node") or not (FOLDER / "node_modules" / "openai").exists():
        pytest.skip("node or its packages are not there: see tests/run")
    model = scripted_model.make(home / "suite.gguf", SCRIPTS, context=4096)
    with Cluster(home, model, workers=2, options=["--alias", "scripted"]) as c:
        done = subprocess.run(["node", HERE / "openai_suite.mjs", c.url, FOLDER],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=300, check=False)
    wrong = re.sub(r"^ok .*\n", "", done.stdout, flags=re.M)
    assert done.returncode == 0, wrong[-6000:]
    assert int(re.search(r"(\d+) calls, 0 wrong", done.stdout)[1]) >= 60
