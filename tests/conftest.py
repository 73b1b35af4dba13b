import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))  # tests/toy.py and other helpers

from crl.envs.rendering import choose_renderer

choose_renderer()  # before anything imports mujoco
