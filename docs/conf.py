"""How the documentation is built; no network is needed."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The pages describe, and their cells run, the package of this checkout.
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])

import glmm_bayes  # noqa: E402
