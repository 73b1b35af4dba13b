"""``crl eval --video`` films what the evaluation did."""

from __future__ import annotations

import os

import pytest

import crl
from crl import cli


@pytest.mark.skipif("MUJOCO_GL" not in os.environ and "DISPLAY" not in os.environ,
                    reason="this machine cannot draw: no display, and neither EGL nor OSMesa works")
def test_a_film_has_a_frame_for_every_state(tmp_path, capsys):
    imageio = pytest.importorskip("imageio.v2")
    stream = crl.make_stream("window-close-v3", steps_per_task=50, horizon=25)
    agent = crl.make_agent("sac", stream, hidden=(8,))
    crl.train(agent, stream, out=tmp_path / "run", eval_episodes=1)
    film = tmp_path / "film.mp4"
    with pytest.raises(SystemExit) as stopped:
        cli.main(["eval", str(tmp_path / "run"), "--task", "window-close-v3", "--episodes", "2",
                  "--video", str(film)])
    assert stopped.value.code == 0
    assert "window-close-v3" in capsys.readouterr().out
    with imageio.get_reader(film) as reader:
        frames = list(reader.iter_data())
    assert len(frames) == 2 * (25 + 1)
    assert frames[0].std() > 10
