"""The command line. Heavy modules are imported by the command that needs them."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
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
        _stop("; type 'crl resume FOLDER' to go on from the last checkpoint")
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        _close_output()
        sys.exit(0)
    except OSError as error:
        print(f"crl: error: {error}", file=sys.stderr)
        _close_output()
        sys.exit(2)
    sys.exit(0)


def _stop(advice: str = "") -> NoReturn:
    """Ends an interrupted command."""
    print(f"crl: stopped{advice}", file=sys.stderr)
    sys.exit(130)


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
    _add_launch(sub)
    sub.add_argument("--protocol", help="'crl list protocols': stream and evaluations of a "
                     "leaderboard")
    sub.add_argument("--out", type=Path, help="the run folder; must not exist")
    sub.add_argument("--workers", type=_natural, metavar="N",
                     help="Ray workers that evaluate and play rounds (train.round_episodes); the "
                     "same rows; default: 0, this process")
    sub.add_argument("--diagnose", action="store_true",
                     help="measure the networks at every evaluation: diagnostics.csv")

    sub = command("resume", _resume, "Go on with a run that was stopped, bit-identically.")
    sub.add_argument("folder", type=Path)

    sub = command("eval", _eval, "Evaluate the newest policies of a run.")
    sub.add_argument("folder", type=Path)
    sub.add_argument("--task", help="one task of the run; default: all")
    sub.add_argument("--episodes", type=_positive, help="default: 10; 100 of --memory")
    sub.add_argument("--seed", type=_natural, default=0)
    sub.add_argument("--stochastic", action="store_true", help="sample actions")
    sub.add_argument("--workers", type=_natural, default=0, metavar="N",
                     help="Ray workers; the same episodes; default: 0, this process")
    sub.add_argument("--memory", action="store_true",
                     help="success at correlation horizons, beside a control without memory")
    sub.add_argument("--lengths", type=_lengths, default=(), metavar="L,L,…",
                     help="lengths of a memory task to test, such as 100,300,1000")
    sub.add_argument("--video", type=Path, help="write the episodes to this .mp4 (needs --task)")

    sub = command("tune", _tune, "Train with settings drawn from a space, by Ray Tune; after a "
                  "kill the same command goes on.")
    _add_launch(sub)
    sub.add_argument("--search", action="append", default=[], metavar="SECTION.NAME=KIND(…)",
                     help="a setting and what it may be, in quotes: 'seed=grid(0,1,2)', "
                     "'agent.learning_rate=loguniform(1e-4,1e-2)'; also uniform, randint, "
                     "lograndint, choice; may be repeated")
    sub.add_argument("--samples", type=_positive, default=1,
                     help="draws of the space; every grid is repeated as often; default: 1")
    sub.add_argument("--workers", type=_positive, default=os.cpu_count() or 1, metavar="N",
                     help="trials at once, a core each; default: one for each core")
    sub.add_argument("--out", type=Path, required=True, help="the folder of all trials")

    sub = command("report", _report, "Write a self-contained HTML page, PNG and CSV from runs.")
    sub.add_argument("folders", type=Path, nargs="+")
    sub.add_argument("--out", type=Path, default=Path("report"))

    sub = command("leaderboard", _leaderboard,
                  "Rank the runs of a protocol in a folder: a self-contained page, Markdown, CSV.")
    sub.add_argument("folder", type=Path, help="holds run folders, or folders of them")
    sub.add_argument("--out", type=Path, default=Path("leaderboard"))
    sub.add_argument("--check", action="store_true",
                     help="say whether the runs may be submitted, and write nothing")

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

    sub = command("export", _export, "Write policies as bundles that run without torch.")
    sub.add_argument("source", type=Path, metavar="RUN",
                     help="a run folder, or a .zip of Stable-Baselines3: opening that runs what is "
                     "in it")
    sub.add_argument("--task", help="one task of the run; default: all, a bundle for each")
    sub.add_argument("--robot", help="the task that the model in a .zip was trained on")
    sub.add_argument("--out", type=Path, required=True, help="the bundle; must not exist")
    sub.add_argument("--rate", type=_number, metavar="HZ", help="control steps in a second; "
                     "default: the simulated robot's")
    sub.add_argument("--safe", type=_numbers, metavar="A,A,…",
                     help="the action to fall back on; default: 0")
    sub.add_argument("--slew", type=_numbers, metavar="S,S,…",
                     help="how far each number of an action may change in a second")
    sub.add_argument("--sign", type=Path, metavar="KEY.pem", help="a private ed25519 key")
    sub.add_argument("--distill", type=_positive, metavar="STEPS",
                     help="of a run that plans: teach a network what it decides, in so many steps "
                     "of the simulated robot such as 4000, and export that")

    sub = command("drive", _drive, "Drive a simulated robot with a bundle, in real time; the exit "
                  "status is 1 if limits were left.")
    sub.add_argument("bundle", type=Path, help="what 'crl export' wrote; or a folder of bundles, "
                     "which take turns")
    sub.add_argument("--robot", help="'crl list tasks'; default: what the bundle was trained on")
    sub.add_argument("--seconds", type=_number, default=10.0, help="default: 10")
    sub.add_argument("--rate", type=_number, metavar="HZ", help="control steps in a second; "
                     "default: the bundle's")
    sub.add_argument("--key", type=Path, metavar="PUBLIC.pem",
                     help="refuse a bundle that is not signed by this ed25519 key")
    sub.add_argument("--fault", action="append", default=[], metavar="NAME=VALUE",
                     help="noise, drop, delay, nan or slow, such as drop=0.1; may be repeated")
    sub.add_argument("--seed", type=_natural, default=0)
    sub.add_argument("--video", type=Path, help="film it afterwards: an .mp4")
    sub.add_argument("--json", action="store_true", help="print the summary as JSON")
    sub.add_argument("--serve", metavar="HOST:PORT", help="drive a robot that connects to this "
                     "instead: 127.0.0.1:7000; see docs/deployment.md")
    sub.add_argument("--token", type=Path, metavar="FILE",
                     help="holds what a robot must know; needed for other hosts than this one")

    sub = command("bench", _bench, "Measure speed: ours, the peer and the floor, side by side.")
    sub.add_argument("name", nargs="?", help="which benchmark; default: all")
    sub.add_argument("--json", action="store_true", help="one JSON object a line")

    sub = command("list", _list,
                  "List streams, agents, methods, memories, planners, tasks or protocols.")
    sub.add_argument("kind", choices=("streams", "agents", "methods", "memories", "planners",
                                      "tasks", "protocols"))
    return parser


def _add_launch(sub: argparse.ArgumentParser) -> None:
    """Options that say what is trained."""
    sub.add_argument("--config", type=Path, help="JSON file, such as the run.json of a run")
    sub.add_argument("--stream", help="'crl list streams', or tasks: push-v3,window-close-v3")
    sub.add_argument("--agent", help="'crl list agents'")
    sub.add_argument("--method", action="append", help="'crl list methods'; may be repeated")
    sub.add_argument("--seed", type=_natural)
    sub.add_argument("--device", help="cpu (default), cuda, cuda:1")
    sub.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE",
                     help="a setting of stream, agent, train or a method; may be repeated")


def _natural(text: str) -> int:
    if text.isdecimal() and text.isascii() and len(text) <= _LONGEST_NUMBER:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number from 0, got {text[:40]!r}")


def _positive(text: str) -> int:
    if text.strip("0") and text.isdecimal() and text.isascii() and len(text) <= _LONGEST_NUMBER:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text[:40]!r}")


def _number(text: str) -> float:
    with contextlib.suppress(ValueError):
        value = float(text)
        if text.isascii() and 0 < value < math.inf:
            return value
    raise argparse.ArgumentTypeError(f"expected a number above 0, got {text[:40]!r}")


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers with commas between them, got {text[:40]!r}") from None


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


def _launch(options: argparse.Namespace, protocol: Any = None) -> dict[str, Any]:
    """The launch that options of :func:`_add_launch` describe, under a protocol or none."""
    from crl.launch import apply_settings, default_launch, read_launch

    launch = default_launch()
    if options.config:
        launch = read_launch(options.config)
    elif any(o is not None for o in (options.stream, options.agent, options.method, protocol)):
        launch["methods"] = []
    if protocol and options.stream is not None:
        raise UserError("--protocol says which stream; leave --stream out")
    if protocol:
        protocol.apply_to(launch)
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
    if protocol:
        protocol.require_followed(launch)
    return launch


def _train(options: argparse.Namespace) -> None:
    from crl.launch import default_out, run_launch
    from crl.leaderboard import protocols
    from crl.progress import Display

    launch = _launch(options, None if options.protocol is None else protocols.get(options.protocol))
    if options.diagnose:
        launch["train"]["diagnose"] = True
    if options.workers is not None:
        launch["train"]["workers"] = options.workers
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
    from crl.workers import Workers

    if options.memory or options.lengths:
        if options.video or options.stochastic or options.workers:
            raise UserError("--memory counts successes of the deterministic policy, all episodes "
                            "at once; leave --video, --stochastic and --workers out")
        return _eval_memory(options)
    if options.video and options.workers:
        raise UserError("--video films in this process; leave --workers out")
    if options.video and options.task is None:
        raise UserError("--video shows one task; add --task, one of those that 'crl eval "
                        f"{options.folder}' lists")
    run = Run(options.folder)
    agent, stream = run.agent(), run.stream
    tasks = list(stream) if options.task is None else [stream[options.task]]
    episodes = options.episodes or 10
    settings = {"seed": options.seed, "deterministic": not options.stochastic}
    results = {}
    with Workers(options.workers) as workers:
        for task in tasks:
            policy = agent.policy(task)
            if options.video:
                rows = record(policy, stream, task, options.video, episodes, **settings)
            else:
                rows = evaluate(policy, task, episodes, workers=workers, **settings)
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


def _tune(options: argparse.Namespace) -> None:
    from crl.progress import Display
    from crl.search import parse_axis, results_table, search
    from crl.tables import console
    from crl.tune import check

    launch, axes = _launch(options), [parse_axis(text) for text in options.search]
    try:
        with Display() as display:
            results = search(launch, axes, options.out, samples=options.samples,
                             workers=options.workers, watch=display)
    except KeyboardInterrupt:
        _stop("; type the same command again to go on")
    console().print(results_table(results, axes))
    check(results)
    print(f"trials: {options.out}; type 'crl report {options.out}' to compare them")


def _report(options: argparse.Namespace) -> None:
    from crl.report import report
    from crl.tune import trial_runs

    runs = [run for folder in options.folders for run in trial_runs(folder) or [folder]]
    print(f"report: {report(runs, options.out)}")


def _leaderboard(options: argparse.Namespace) -> None:
    from crl.leaderboard import check, leaderboard

    if options.check:
        print(f"{options.folder} may be submitted: {check(options.folder)}")
    else:
        print(f"leaderboard: {leaderboard(options.folder, options.out)}")


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
            _stop("; type the same command again to go on")
    console().print(data_table(made))


def _export(options: argparse.Namespace) -> None:
    from crl.agents.distilled import DistillConfig
    from crl.deploy.bundle import Options, export_run, export_zip
    from crl.envs.catalog import make_stream
    from crl.progress import StepBars
    from crl.run import Run

    taught = None if options.distill is None else DistillConfig(steps=options.distill)
    settings = Options(options.rate, options.safe, options.slew, options.sign, taught)
    if options.source.suffix == ".zip":
        if taught:
            raise UserError("a .zip holds networks already; leave --distill out")
        if options.robot is None or options.task is not None:
            raise UserError("a .zip does not say what it is for; give --robot and no --task")
        print(f"crl: opening {options.source} runs what is pickled in it", file=sys.stderr)
        made = [export_zip(options.source, make_stream(options.robot), options.out, settings)]
    elif options.robot is not None:
        raise UserError("a run says itself which robots it is for; leave --robot out")
    else:
        with StepBars() as watch:
            made = export_run(Run(options.source), options.out, options.task, settings, watch)
    for folder in made:
        print(f"bundle: {folder}")


def _drive(options: argparse.Namespace) -> None:
    from crl.envs.rendering import choose_renderer

    if options.video:
        choose_renderer()
    if options.serve:
        return _serve(options)
    from crl.deploy.drive import drive
    from crl.deploy.faults import parse_faults
    from crl.deploy.film import film
    from crl.deploy.live import LiveView
    from crl.deploy.robots import BundleError, find_robots, load_all
    from crl.deploy.summary import outcome_table, summary, timing_table
    from crl.tables import console

    faults = parse_faults(options.fault)
    names = [name.strip() for name in options.robot.split(",")] if options.robot else []
    try:
        robots = find_robots(load_all(options.bundle, options.key), names)
        if options.video and len(robots) > 1:
            raise UserError("--video shows one robot; add --robot, one of "
                            f"{', '.join(robot.task.name for robot in robots)}")
        manifests = {robot.task.name: robot.policy.manifest for robot in robots}
        out = console()
        with LiveView(manifests, options.seconds, out) as watch:
            result = drive(robots, options.seconds, rate_hz=options.rate, faults=faults,
                           seed=options.seed, watch=watch)
    except BundleError as error:
        raise UserError(str(error)) from None
    except KeyboardInterrupt:
        _stop()
    if options.video:
        film(result, robots[0], options.seed, options.video)
    if options.json:
        print(json.dumps(summary(result, faults)), flush=True)
    else:
        out.print(timing_table(result))
        out.print(outcome_table(result))
    if result.wrong():
        sys.stdout.flush()
        sys.exit(1)


def _serve(options: argparse.Namespace) -> None:
    import ipaddress
    import socket

    from crl.deploy.robots import BundleError, load_all
    from crl.deploy.serve import Desk, serve

    host, _, port = options.serve.rpartition(":")
    try:
        local = ipaddress.ip_address(host).is_loopback
        number = range(2**16)[int(port)]
    except (ValueError, IndexError):
        raise UserError(f"--serve takes an address and a port, such as 127.0.0.1:7000, got "
                        f"{options.serve!r}") from None
    if not local and options.token is None:
        raise UserError(f"whoever reaches {host} could drive; add --token FILE")
    token = options.token.read_text().strip() if options.token else None
    if token == "":
        raise UserError(f"{options.token} is empty; write a long random word into it")
    try:
        desk = Desk(load_all(options.bundle, options.key), token)
    except BundleError as error:
        raise UserError(str(error)) from None
    with socket.create_server((host, number), backlog=1) as server:
        print(f"serving on {host}:{server.getsockname()[1]}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            serve(server, desk)


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
