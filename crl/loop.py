"""The loop: steps, learning, evaluations and checkpoints, a task after another.

Checkpoints and evaluations fall between episodes or rounds of them, and every episode is reset with
a seed of its own that depends on the run's seed and the episode's number alone. So the state of a
run is the agent's state, a few counters and what was played ahead, never an environment's, and a
resumed run is bit-identical to one that was never stopped.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch

from crl import config, seeding
from crl.agent import Agent, ExploringAgent, OfflineAgent, Step
from crl.checkpoint import Tree
from crl.diagnostics import Diagnostics
from crl.errors import UserError
from crl.evaluation import Episode, read_success, run_episode
from crl.methods.base import Method
from crl.provenance import describe_machine
from crl.recorder import Recorder
from crl.rollout import Wanted, play_all
from crl.rounds import Collector, play_steps
from crl.rows import SCHEMA
from crl.run import Run
from crl.stream import Env, Task, TaskStream
from crl.train_config import TrainConfig
from crl.workers import Workers


@dataclass
class Progress:
    """Where a run stands; what a progress display is given after every episode.

    Attributes:
        phase: ``"training"``, ``"evaluating"``, ``"consolidating"`` or ``"finished"``.
        task, task_step: Position of the current task and steps done in it.
        env_step: Steps done in the whole stream.
        wall_s: Seconds spent on the run.
        train_success: Share of the last ten training episodes that succeeded.
        eval_success: Success per task when it was last evaluated; NaN before.
    """

    stream: TaskStream
    phase: str = "training"
    task: int = 0
    task_step: int = 0
    env_step: int = 0
    wall_s: float = 0.0
    train_success: float = float("nan")
    eval_success: list[float] = field(default_factory=list)


Watch = Callable[[Progress], None]


class Loop:
    """One run in progress. A context manager: it closes what it opened and sets the status."""

    def __init__(self, agent: Agent, stream: TaskStream, seed: int, settings: TrainConfig,
                 watch: Watch | None, folder: Path) -> None:
        self.agent = agent
        self.stream = stream
        self.seed = seed
        self.config = settings
        self.folder = folder
        self.progress = Progress(stream)
        self._recorder = Recorder(folder, settings.diagnose)
        self._diagnostics = Diagnostics(agent, stream, seed) if settings.diagnose else None
        self._watch = watch or (lambda progress: None)
        self._envs: dict[str, Env] = {}
        self._workers = Workers(settings.workers)
        self._collector = Collector(self._workers, settings.round_episodes, settings.rounds_ahead,
                                    partial(seeding.integer, seed, "train"),
                                    settings.episode_limit_s)
        self._episodes = 0
        self._evaluations = 0
        self._recent: deque[bool] = deque(maxlen=10)
        self._wall_start = time.perf_counter()
        self._cpu_start = time.process_time()

    def create(self, methods: Sequence[Method]) -> None:
        """Begins a new run."""
        for task in self.stream:
            self._env(task)  # a task that cannot be made is an error now, not after an hour
        info = {
            "schema": SCHEMA,
            "status": "running",
            "seed": self.seed,
            "protocol": self.stream.protocol,
            "tasks": [{"name": t.name, "steps": t.steps, "head": t.head} for t in self.stream],
            "config": {
                "stream": self.stream.options or {"name": self.stream.name, "custom": True},
                "agent": {"name": self.agent.name, **config.to_dict(self.agent.config)},
                "methods": [{"name": m.name, **config.to_dict(m.config)} for m in methods],
                "train": config.to_dict(self.config),
            },
            **describe_machine(self.config.threads, getattr(self.agent, "device", "cpu")),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        self._recorder.create(info, self._state())
        self.open(Run(self.folder))

    def open(self, run: Run) -> None:
        """Takes up a run where its newest checkpoint left it; the agent is restored already."""
        checkpoint = run.checkpoint()
        try:
            self._load(checkpoint["loop"])
            self._collector.load_state_dict(checkpoint["collector"])
            if self._diagnostics is not None:
                self._diagnostics.load_state_dict(checkpoint["diagnostics"])
        except (LookupError, TypeError) as error:
            raise UserError(f"the checkpoint of {run.folder} was not written by this crl; its "
                            f"state of the loop lacks {error}") from error
        self._recorder.open(run, checkpoint, self.progress.env_step)

    def __enter__(self) -> Loop:
        self._workers.__enter__()
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(self.config.threads)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: object) -> None:
        torch.set_num_threads(self._threads_before)
        self._workers.__exit__()
        for env in self._envs.values():
            env.close()
        self._recorder.close(error)

    # ---- state ----

    def _state(self) -> Tree:
        p = self.progress
        return {
            "agent": self.agent.state_dict(),
            "loop": {
                "task": p.task, "task_step": p.task_step, "env_step": p.env_step,
                "episodes": self._episodes, "evaluations": self._evaluations,
                "recent": list(self._recent), "eval_success": p.eval_success,
                "wall_s": self._wall(), "cpu_s": self._cpu(),
            },
            "collector": self._collector.state_dict(),
            "diagnostics": self._diagnostics.state_dict() if self._diagnostics else None,
        }

    def _load(self, loop: Tree) -> None:
        p = self.progress
        p.task, p.task_step, p.env_step = loop["task"], loop["task_step"], loop["env_step"]
        p.eval_success = list(loop["eval_success"])
        self._episodes, self._evaluations = loop["episodes"], loop["evaluations"]
        self._recent = deque(loop["recent"], maxlen=10)
        if self._recent:
            p.train_success = float(np.mean(self._recent))
        self._wall_start = time.perf_counter() - loop["wall_s"]
        self._cpu_start = time.process_time() - loop["cpu_s"]

    def _wall(self) -> float:
        return time.perf_counter() - self._wall_start

    def _cpu(self) -> float:
        return time.process_time() - self._cpu_start + self._workers.cpu_s

    def _save(self) -> None:
        self._recorder.save(self._state(), f"{self.progress.env_step}-{self.progress.task}")

    # ---- the loop ----

    def run(self) -> None:
        """Trains to the end of the stream."""
        p = self.progress
        if p.env_step == 0:
            self._evaluate()
        while p.task < len(self.stream):
            task = self.stream[p.task]
            known = self.stream.boundaries == "known"
            if p.task_step == 0 and (known or p.task == 0):
                self.agent.begin_task(task)
            self._train_task(task)
            self._show("consolidating")
            if known:
                self.agent.end_task(task)
            self._evaluate()
            if known and self._diagnostics is not None:
                self._diagnostics.end_task(task)
            self._collector.begin(self._episodes)
            p.task += 1
            p.task_step = 0
            self._save()
        self._recorder.set_status("finished")
        self._show("finished")

    def _train_task(self, task: Task) -> None:
        p = self.progress
        eval_every = self.config.eval_every or max(1, task.steps // 10)
        often = self.config.checkpoint_every
        save_every = eval_every if often == "evaluation" else often
        train = (self._train_offline if isinstance(self.agent, OfflineAgent) else
                 self._train_round if self.config.round_episodes else self._train_episode)
        while p.task_step < task.steps:
            before = p.task_step
            train(task)
            self._show("training")
            if p.task_step >= task.steps:
                break  # the end of a task is evaluated and saved once it is consolidated
            if p.task_step // eval_every > before // eval_every:
                self._evaluate()
            if p.task_step // save_every > before // save_every:
                self._save()

    def _train_episode(self, task: Task) -> None:
        """One training episode of the agent itself, which learns after every step."""
        seed = seeding.integer(self.seed, "train", self._episodes)
        steps = play_steps(self.agent.act, self._env(task), task.name, seed)
        self._learn_from(steps, task, seed, self._update)

    def _train_round(self, task: Task) -> None:
        """A round of episodes, which the agent learns from in the end."""
        played = self._collector.next_round(cast(ExploringAgent, self.agent), task, self._env(task))
        for fragment in played:
            seed = seeding.integer(self.seed, "train", self._episodes)
            self._learn_from(fragment.steps(), task, seed, lambda: None)
            if self.progress.task_step >= task.steps:
                break
        self._update()

    def _learn_from(self, steps: Iterable[Step], task: Task, seed: int, update: Callable[[], None]
                    ) -> None:
        """Shows the agent an episode, cut short where the task's budget ends."""
        p = self.progress
        total, length, once = 0.0, 0, False
        for step in steps:
            p.task_step += 1
            p.env_step += 1
            over = p.task_step >= task.steps
            self.agent.observe(step._replace(truncated=step.truncated | over))
            update()
            total += float(step.reward[0])
            length += 1
            success = read_success(step.info[0])
            once = once or success
            if over:
                break
        episode = Episode(seed, total, once, success, length)
        self._write("train", p.task, self._episodes, episode)
        self._recorder.scalars({"train/return": total, "train/success": float(once)}, p.env_step)
        self._episodes += 1
        self._recent.append(once)
        p.train_success = float(np.mean(self._recent))

    def _update(self) -> None:
        self._recorder.scalars(self.agent.update(), self.progress.env_step)

    def _train_offline(self, task: Task) -> None:
        """One gradient step of an agent that learns from records, which counts as a step."""
        p = self.progress
        p.task_step += 1
        p.env_step += 1
        self._update()

    def _evaluate(self) -> None:
        """Evaluates the agent as it stands and writes a row per episode."""
        p = self.progress
        which = self._evaluated_tasks()
        self._show("evaluating")
        self._collector.wait()  # so that no evaluation counts as hung for the sake of a round
        p.eval_success = p.eval_success or [float("nan")] * len(self.stream)
        played = self._evaluation_episodes(which)
        for position in which:
            task, episodes = self.stream[position], []
            for e in range(self.config.eval_episodes):
                episodes.append(next(played))
                self._write("evals", position, e, episodes[-1])
            p.eval_success[position] = float(np.mean([e.success_once for e in episodes]))
            self.agent.methods.evaluated(task, p.eval_success[position])
            self._recorder.scalars({f"eval/{task.name}": p.eval_success[position]}, p.env_step)
        if self._diagnostics is not None:
            self._write_measures(self._diagnostics)
        self._evaluations += 1
        mean = float(np.mean([p.eval_success[i] for i in which]))
        self._recorder.scalars({"eval/mean": mean}, p.env_step)

    def _evaluated_tasks(self) -> range:
        p, which = self.progress, self.config.eval_tasks
        if which == "seen":
            return range(p.task + 1)
        begins = p.env_step == 0
        ends = p.task == len(self.stream) - 1 and p.task_step >= self.stream[p.task].steps
        if which == "all" or begins or ends:
            return range(len(self.stream))
        return range(p.task, p.task + 1)

    def _evaluation_episodes(self, positions: Sequence[int]) -> Generator[Episode, None, None]:
        """Those of the tasks at these positions, in order."""
        deterministic = self.config.eval_deterministic
        wanted = (Wanted(self.agent.policy(self.stream[i]), self.stream[i],
                         [seeding.integer(self.seed, "evaluate", self._evaluations, i, e)
                          for e in range(self.config.eval_episodes)]) for i in positions)
        if self.config.workers:
            yield from play_all(self._workers, list(wanted), deterministic=deterministic,
                                limit_s=self.config.episode_limit_s)
            return
        for policy, task, seeds in wanted:
            for seed in seeds:
                yield run_episode(policy, self._env(task), seed, deterministic=deterministic)

    def _write_measures(self, diagnostics: Diagnostics) -> None:
        p = self.progress
        for part, measure, value in diagnostics.measure():
            self._recorder.write("diagnostics", {
                "env_step": p.env_step, "grad_step": self.agent.gradient_steps,
                "train_task": p.task, "part": part, "measure": measure, "value": value})
            self._recorder.scalars({f"{measure}/{part}": value}, p.env_step)

    def _write(self, name: str, eval_task: int, number: int, episode: Episode) -> None:
        self._recorder.write(name, {
            "env_step": self.progress.env_step,
            "grad_step": self.agent.gradient_steps,
            "wall_s": self._wall(),
            "cpu_s": self._cpu(),
            "train_task": self.progress.task,
            "eval_task": eval_task,
            "episode": number,
            "seed": episode.seed,
            "return": episode.reward_sum,
            "success_once": episode.success_once,
            "success_end": episode.success_end,
            "length": episode.length,
        })

    def _env(self, task: Task) -> Env:
        if task.name not in self._envs:
            self._envs[task.name] = self.stream.make(task)
        return self._envs[task.name]

    def _show(self, phase: str) -> None:
        self.progress.phase = phase
        self.progress.wall_s = self._wall()
        try:
            self._watch(self.progress)
        except OSError as error:  # of the output, not of the run folder
            raise UserError(f"cannot show progress: {error.strerror or error}; type "
                            f"'crl resume {self.folder}' to go on") from error
