"""The command line. Heavy modules are imported by the command that needs them."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from crl.errors import UserError, unknown

_LONGEST_NUMBER = 1000  # digits; Python itself reads no more than 4300


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one line that says what to type."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; type '{self.prog} --help'")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The console script ``crl``; exits with 0, 2 after a user's error, 130 when interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        options = _parser().parse_args(arguments)
        options.run(options)
        sys.stdout.flush()
    except UserError as error:
        print(f"crl: error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("crl: stopped; type 'crl resume FOLDER' to go on from the last checkpoint",
              file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        _close_output()
        sys.exit(0)
    except OSError as error:
        print(f"crl: error: {error}", file=sys.stderr)
        _close_output()
        sys.exit(2)
    sys.exit(0)


def _close_output() -> None:
    """Drops what could not be written; Python would try again, and fail, when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    from crl import __version__

    parser = _Parser(prog="crl", allow_abbrev=False,
                     description="Continual reinforcement learning of simulated robots.")
    parser.add_argument("--version", action="version", version=f"crl {__version__}")
    parser.set_defaults(run=lambda options: parser.print_help())
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Parser)

    def command(name: str, run: Any, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
        sub.set_defaults(run=run)
        return sub

    sub = command("demo", _demo, "Learn three robot tasks twice, with and without PackNet; report.")
    sub.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder for the two runs")
    sub.add_argument("--seed", type=_natural, default=0)

    sub = command("train", _train,
                  "Train an agent on a stream; with no options, the demo's PackNet.")
    sub.add_argument("--config", type=Path, help="JSON file, such as the run.json of a run")
    sub.add_argument("--stream", help="'crl list streams', or tasks: push-v3,window-close-v3")
    sub.add_argument("--agent", help="'crl list agents'")
    sub.add_argument("--method", action="append", help="'crl list methods'; may be repeated")
    sub.add_argument("--seed", type=_natural)
    sub.add_argument("--out", type=Path, help="the run folder; must not exist")
    sub.add_argument("--device", help="cpu (default), cuda, cuda:1")
    sub.add_argument("--diagnose", action="store_true",
                     help="measure the networks at every evaluation: diagnostics.csv")
    sub.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE",
                     help="a setting of stream, agent, train or a method; may be repeated")

    sub = command("resume", _resume, "Go on with a run that was stopped, bit-identically.")
    sub.add_argument("folder", type=Path)

    sub = command("eval", _eval, "Evaluate the newest policies of a run.")
    sub.add_argument("folder", type=Path)
    sub.add_argument("--task", help="one task of the run; default: all")
    sub.add_argument("--episodes", type=_positive, help="default: 10; 100 of --memory")
    sub.add_argument("--seed", type=_natural, default=0)
    sub.add_argument("--stochastic", action="store_true", help="sample actions")
    sub.add_argument("--memory", action="store_true",
                     help="success at correlation horizons, beside a control without memory")
    sub.add_argument("--lengths", type=_lengths, default=(), metavar="L,L,…",
                     help="lengths of a memory task to test, such as 100,300,1000")
    sub.add_argument("--video", type=Path, help="write the episodes to this .mp4 (needs --task)")

    sub = command("report", _report, "Write a self-contained HTML page, PNG and CSV from runs.")
    sub.add_argument("folders", type=Path, nargs="+")
    sub.add_argument("--out", type=Path, default=Path("report"))

    sub = command("data", _data, "Make Minari data sets of expert play, or of what a run played; "
                  "after a kill the same command goes on.")
    sub.add_argument("--stream", help="tasks that Meta-World's scripted experts play: a stream, or "
                     "push-v3,window-close-v3")
    sub.add_argument("--run", dest="source", type=Path, metavar="FOLDER",
                     help="take the episodes in the replay of this run instead")
    sub.add_argument("--policy", action="store_true",
                     help="play with the newest policies of --run")
    sub.add_argument("--out", type=Path, required=True, help="the folder of the data sets")
    sub.add_argument("--episodes", type=_positive, help="of each task; default: 30")
    sub.add_argument("--noise", type=float, metavar="STD", help="largest standard deviation of "
                     "noise on actions; each episode draws its own below it; default: 0")
    sub.add_argument("--partial", type=float, metavar="SHARE", help="share of episodes in which "
                     "random actions take over at some step; default: 0")
    sub.add_argument("--seed", type=_natural, help="default: 0")
    sub.add_argument("--workers", type=_natural, default=0,
                     help="Ray workers; the data is the same; default: 0, this process")
    sub.add_argument("--format", choices=("hdf5", "arrow"), default="hdf5")
    sub.add_argument("--set", action="append", default=[], metavar="stream.NAME=VALUE",
                     help="a setting of the stream, such as stream.horizon=100; may be repeated")

    sub = command("bench", _bench, "Measure speed: ours, the peer and the floor, side by side.")
    sub.add_argument("name", nargs="?", help="which benchmark; default: all")
    sub.add_argument("--json", action="store_true", help="one JSON object a line")

    sub = command("list", _list, "List streams, agents, methods, memories, planners or tasks.")
    sub.add_argument("kind", choices=("streams", "agents", "methods", "memories", "planners",
                                      "tasks"))
    return parser


def _natural(text: str) -> int:
    if text.isdecimal() and text.isascii() and len(text) <= _LONGEST_NUMBER:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number from 0, got {text[:40]!r}")


def _positive(text: str) -> int:
    if text.strip("0") and text.isdecimal() and text.isascii() and len(text) <= _LONGEST_NUMBER:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text[:40]!r}")


def _lengths(text: str) -> tuple[int, ...]:
    return tuple(_positive(part.strip()) for part in text.split(","))


def _demo(options: argparse.Namespace) -> None:
    from crl.demo import demo
    from crl.report import report
    from crl.tables import console, success_table

    runs = demo(options.out, options.seed)
    last = {name: run.scores().values[-1].tolist() for name, run in runs.items()}
    print("\nSuccess on every task after the whole stream:")
    console().print(success_table(last, next(iter(runs.values())).tasks))
    print(f"\nreport: {report(list(runs.values()), options.out / 'report')}")


def _train(options: argparse.Namespace) -> None:
    from crl.launch import apply_settings, default_launch, default_out, read_launch, run_launch
    from crl.progress import Display

    launch = default_launch()
    if options.config:
        launch = read_launch(options.config)
    elif any(o is not None for o in (options.stream, options.agent, options.method)):
        launch["methods"] = []
    if options.stream is not None:
        launch["stream"] = {"name": options.stream}
    if options.agent is not None:
        launch["agent"] = {"name": options.agent}
    if options.method:
        launch["methods"] = [{"name": name} for name in options.method]
    for name in ("seed", "device"):
        if getattr(options, name) is not None:
            launch[name] = getattr(options, name)
    apply_settings(launch, options.set)
    if options.diagnose:
        launch["train"]["diagnose"] = True
    out = options.out or default_out(launch)
    with Display() as display:
        run = run_launch(launch, out, watch=partial(display, out.name))
    print(f"run: {run.folder}")


def _resume(options: argparse.Namespace) -> None:
    from crl.progress import Display
    from crl.training import resume

    with Display() as display:
        run = resume(options.folder, watch=partial(display, options.folder.resolve().name))
    print(f"run: {run.folder}")


def _eval(options: argparse.Namespace) -> None:
    from crl.envs.rendering import choose_renderer

    if options.video:
        choose_renderer()
    from crl.evaluation import evaluate
    from crl.run import Run
    from crl.tables import console, evaluation_table
    from crl.video import record

    if options.memory or options.lengths:
        if options.video or options.stochastic:
            raise UserError("--memory counts successes of the deterministic policy; leave --video "
                            "and --stochastic out")
        return _eval_memory(options)
    if options.video and options.task is None:
        raise UserError("--video shows one task; add --task, one of those that 'crl eval "
                        f"{options.folder}' lists")
    run = Run(options.folder)
    agent, stream = run.agent(), run.stream
    tasks = list(stream) if options.task is None else [stream[options.task]]
    episodes = options.episodes or 10
    settings = {"seed": options.seed, "deterministic": not options.stochastic}
    results = {}
    for task in tasks:
        policy = agent.policy(task)
        if options.video:
            rows = record(policy, stream, task, options.video, episodes, **settings)
        else:
            rows = evaluate(policy, task, episodes, **settings)
        results[task.name] = rows
    console().print(evaluation_table(results))


def _eval_memory(options: argparse.Namespace) -> None:
    from crl.memory_evaluation import MemoryRow, evaluate_memory
    from crl.run import Run
    from crl.tables import console, memory_table

    run = Run(options.folder)
    agent, stream = run.agent(), run.stream
    tasks = list(stream) if options.task is None else [stream[options.task]]
    status = console().status("") if console().is_terminal else None
    rows: list[MemoryRow] = []
    with status or contextlib.nullcontext():
        for task in tasks:
            rows += evaluate_memory(
                agent.policy(task), task, run.config["stream"], options.lengths,
                options.episodes or 100, options.seed,
                lambda name: status.update(name) if status else None)
    console().print(memory_table(rows))


def _report(options: argparse.Namespace) -> None:
    from crl.report import report

    print(f"report: {report(options.folders, options.out)}")


def _data(options: argparse.Namespace) -> None:
    from crl.data.display import DataDisplay, data_table
    from crl.data.making import make_data, make_replay_data
    from crl.envs.catalog import make_stream
    from crl.launch import apply_settings
    from crl.run import Run
    from crl.tables import console

    if (options.stream is None) == (options.source is None):
        raise UserError("crl data needs --stream, or --run; type 'crl data --help'")
    run = Run(options.source) if options.source else None
    how = {name: getattr(options, name) for name in ("episodes", "noise", "partial", "seed")
           if getattr(options, name) is not None}
    if run and options.set:
        raise UserError("the stream of --run is what it was trained on; leave --set out")
    if run and not options.policy:
        if how:
            raise UserError("--run alone takes what was played already; leave "
                            f"--{next(iter(how))} out, or add --policy")
        made = make_replay_data(run, options.out, data_format=options.format)
    elif options.policy and not run:
        raise UserError("--policy plays with the policies of a run; add --run FOLDER")
    else:
        launch: dict[str, Any] = {"stream": {"name": options.stream}, "agent": {}, "train": {},
                                  "methods": []}
        apply_settings(launch, options.set)
        if launch["agent"] or launch["train"]:
            raise UserError("--set takes settings of the stream here, such as stream.horizon=100")
        stream = run.stream if run else make_stream(**launch["stream"])
        try:
            with DataDisplay() as display:
                made = make_data(stream, options.out, run=run, data_format=options.format,
                                 workers=options.workers, watch=display, **how)
        except KeyboardInterrupt:
            print("crl: stopped; type the same command again to go on", file=sys.stderr)
            sys.exit(130)
    console().print(data_table(made))


def _bench(options: argparse.Namespace) -> None:
    from crl.bench import BENCHES
    from crl.tables import print_benchmarks

    if options.name is not None and options.name not in BENCHES:
        raise unknown("benchmark", options.name, BENCHES)
    names = [options.name] if options.name else list(BENCHES)
    rows = (row for name in names for row in BENCHES[name]())
    if options.json:
        for row in rows:
            print(json.dumps(row), flush=True)
    else:
        print_benchmarks(rows)


def _list(options: argparse.Namespace) -> None:
    from crl.tables import console, names_table

    console().print(names_table(options.kind))
