"""The click group's own ways: suggestions, one-sentence errors, exit codes, a short help."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
import traceback
import warnings
from typing import TYPE_CHECKING, Any

import click

from daskenv_lab.errors import CommandError, DaskEnvLabError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from daskenv_lab.cli.surface import Surface

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""

_HELP = """\
{name}: a Dask cluster that outlives your notebook, and Prefect flows that run on it.

  up [WHAT]          start a cluster, or reuse the one that has the name
  run FLOW, sync     run a flow on it, and report; ship modules with the flows of this folder
  scale N, adapt     ask for N workers; let their number follow the load, from MIN to MAX
  status, ls, logs   how a cluster is; all clusters; the last lines of its logs
  packages, tune     compare packages here and there; what other sizes would take and cost
  export, register   write its settings for production; make a Prefect deployment of a flow
  detach, down       let go of it, and it lives on; destroy it
  reap, keep-alive   remove what nobody holds; put off that a cluster ends by itself
  bootstrap, doctor  make what clusters in AWS share, once; examine the account
  rehearse VERB      start, look at or stop an AWS account on this machine
  profiles           list what `up` knows
  panel, dashboard   all of this in a panel in the notebook; Dask's dashboard, or a plot of it
  app, demo, lab     the panel in the browser; the whole story here; a notebook in JupyterLab

Examples:
  {name} up local --name dev --workers 2
  {name} run {flow} x=[1,2,3]
  {name} down dev

`{name} VERB --help` tells a verb's options; `{name} --debug VERB` shows whole tracebacks."""


class Suggesting(click.Group):
    """A group that understands mistyped verbs."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a verb, or name the nearest."""
        word = args[0]
        if self.get_command(ctx, word) is None and not word.startswith("-"):
            raise click.UsageError(
                f"no verb is named {word!r}; {did_you_mean(word, self.commands)}", ctx
            )
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the verbs in the order of the story."""
        del ctx
        return list(self.commands)


class Verbs(Suggesting):
    """The outermost group, whose errors are one sentence."""

    def get_help(self, ctx: click.Context) -> str:
        """Give the short help."""
        name = ctx.command_path
        flow = "add_up" if name.startswith("%") else "flows/etl.py:etl"
        return _HELP.format(name=name, flow=flow)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run as the command: `standalone_mode` ends the process with an exit code."""
        run = functools.partial(
            super().main, args, prog_name, complete_var, standalone_mode=False, **extra
        )
        if not standalone_mode:
            return run()
        with _ending_in_order(), _plain_warnings():
            sys.exit(_exit_code(run))

    def perform(self, arguments: Sequence[str], surface: Surface) -> Any:
        """Run as the magic: give what the verb gives.

        Raises
        ------
        CommandError
            The verb was not understood.
        """
        try:
            with (
                _plain_warnings(),
                self.make_context("%daskenv", list(arguments), obj=surface) as ctx,
            ):
                return self.invoke(ctx)
        except click.exceptions.Exit:
            return None  # After a help text.
        except click.ClickException as error:
            raise CommandError(sentence(error)) from error


def _exit_code(run: Callable[[], Any]) -> int:
    """Run a verb and show how it ended."""
    try:
        ended = run()
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt) as error:
        if isinstance(error.__cause__, EOFError):
            raise  # A question ends otherwise when nobody answers, so this is a fault of ours.
        click.echo("Interrupted; `daskenv ls` shows what runs.", file=sys.stderr)
        return INTERRUPTED
    except (click.ClickException, DaskEnvLabError) as error:
        if DaskEnvLabError.show_traceback:
            traceback.print_exception(error)
        else:
            click.echo(f"Error: {sentence(error)}", file=sys.stderr)
        return 2 if isinstance(error, click.UsageError | CommandError) else 1
    except BrokenPipeError:
        # Whoever read our output went away; Python must not complain again at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return ended if type(ended) is int else 0


def sentence(error: click.ClickException | DaskEnvLabError) -> str:
    """Give an error's sentence, and where a verb's options are told if it was misused."""
    if not isinstance(error, click.ClickException):
        return str(error)
    context = getattr(error, "ctx", None)
    if isinstance(error, click.NoSuchOption) and context is not None:
        known = [name for parameter in context.command.params for name in parameter.opts]
        options = [name for name in known if name.startswith("-")]
        near = did_you_mean(error.option_name, [*options, "--help"])
        return f"`{context.command_path}` has no option {error.option_name!r}; {near}"
    said = error.format_message().rstrip(".")
    if context is None or said.startswith("no verb"):
        return said
    return f"{said[0].lower()}{said[1:]}; see `{context.command_path} --help`"


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let a closed terminal, or a polite kill, undo what is half done as Ctrl-C does."""

    def leave(signum: int, frame: FrameType | None) -> None:
        del frame
        sys.exit(128 + signum)

    names = [n for n in ("SIGTERM", "SIGHUP") if hasattr(signal, n)]
    if threading.current_thread() is not threading.main_thread():
        names = []
    with contextlib.ExitStack() as undo:
        for number in (getattr(signal, name) for name in names):
            undo.callback(signal.signal, number, signal.signal(number, leave))
        yield


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show a warning as its sentence, without a line of our source."""

    def show(message: Warning | str, *args: Any, **kwargs: Any) -> None:
        del args, kwargs
        click.echo(f"Warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
