"""Episodes as a video file; needs the extra ``video``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import gymnasium

from crl import seeding
from crl.agent import Policy
from crl.errors import UserError
from crl.evaluation import Episode, run_episode
from crl.stream import Env, Task, TaskStream


def record(policy: Policy, stream: TaskStream, task: Task, path: Path, episodes: int = 1,
           seed: int = 0, *, deterministic: bool = True) -> list[Episode]:
    """Runs a policy as ``crl.evaluate`` would, and writes what the camera sees to an .mp4.

    Raises:
        UserError: The extra is not installed, ``path`` is not an .mp4 or cannot be written, or this
            machine cannot render.
    """
    if path.suffix != ".mp4":
        raise UserError(f"--video writes .mp4 files, got {str(path)!r}")
    try:
        import imageio.v2 as imageio
    except ImportError:
        raise UserError("video needs an extra; type: pip install 'crl[video]'") from None
    env = stream.make(task, render_mode="rgb_array")
    unfinished = path.with_name(f".{path.stem}.unfinished.mp4")
    try:
        unfinished.touch()  # a folder that cannot be written is an error before the first episode
        frames_per_second = env.metadata.get("render_fps", 30)
        writer = imageio.get_writer(unfinished, fps=frames_per_second, macro_block_size=8)
        with contextlib.closing(writer):  # as a context manager it would not close after an error
            episodes_done = [
                run_episode(policy, env, seeding.integer(seed, "evaluate", e),
                            deterministic=deterministic,
                            watch=lambda: writer.append_data(_picture(env, task)))
                for e in range(episodes)
            ]
        unfinished.replace(path)
        return episodes_done
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        env.close()


def _picture(env: Env, task: Task) -> Any:
    try:
        picture = env.render()
    except (gymnasium.error.Error, ImportError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it has no render()"
        raise UserError(f"task {task.name!r} cannot be filmed here: {reason}") from error
    if picture is None:
        raise UserError(f"task {task.name!r} cannot be filmed: its render() gives no picture")
    return picture
