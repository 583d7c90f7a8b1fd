"""The panel's own small parts: text that is never read as HTML, and a button with its call."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from daskenv_lab.errors import DaskEnvLabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from daskenv_lab.view.call import Call
    from daskenv_lab.view.lab import Lab

WIDE = widgets.Layout(width="100%")
_LABELLED = {"description_width": "11em"}

STYLE = """<style>
.daskenv table {border-collapse: collapse; font-size: var(--jp-ui-font-size1, 13px)}
.daskenv th, .daskenv td {text-align: left; padding: 2px 12px 2px 0; white-space: nowrap;
  color: var(--jp-ui-font-color1, inherit)}
.daskenv th {font-weight: 600; border-bottom: 1px solid var(--jp-border-color2, #888)}
.daskenv code {font-family: var(--jp-code-font-family, monospace); font-size: 12px;
  color: var(--jp-ui-font-color1, inherit); background: transparent; white-space: pre-wrap}
.daskenv .headline {font-weight: 600; color: var(--jp-ui-font-color1, inherit)}
.daskenv .waits {color: var(--jp-ui-font-color1, inherit)}
.daskenv .failed {color: var(--jp-error-color0, #b00020)}
.daskenv pre {font-family: var(--jp-code-font-family, monospace); font-size: 12px;
  max-height: 20em; overflow: auto; color: var(--jp-ui-font-color1, inherit)}
</style>"""


def text(value: object, kind: str = "") -> str:
    """Give text as HTML that shows just that."""
    shown = html.escape(str(value))
    return f'<span class="{kind}">{shown}</span>' if kind else shown


def code(value: str) -> str:
    """Give code as HTML."""
    return f"<code>{html.escape(value)}</code>" if value else ""


def link(url: str | None, value: str) -> str:
    """Give a link that opens in a tab of its own; only the text where there is none."""
    if not url or not url.startswith(("http://", "https://")):
        return text(value)
    return f'<a href="{html.escape(url)}" target="_blank" rel="noopener">{text(value)}</a>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """Give a table; the cells are HTML already."""
    top = "".join(f'<th scope="col">{text(cell)}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    told = f"<caption>{text(caption)}</caption>" if caption else ""
    return f"<table>{told}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def show(widget: widgets.HTML, value: str) -> None:
    """Change what an HTML widget shows; nothing is sent where it is the same."""
    if widget.value != value:
        widget.value = value


def labelled(kind: type[Any], description: str, **traits: Any) -> Any:
    """Make a field whose label is read out with it."""
    return kind(
        description=description, style=_LABELLED, layout=widgets.Layout(width="32em"), **traits
    )


class CallButton(widgets.VBox):  # type: ignore[misc]
    """A button, the Python call it makes, and below it what came of that.

    Parameters
    ----------
    lab : Lab
        Whose call it is.
    control : str
        The control's name in `Lab.said`.
    description : str
        What the button says.
    call : callable
        Gives the call as the fields are now; raises ValueError or DaskEnvLabError with a
        sentence where they are not filled in.
    then : callable, optional
        Says in a sentence what the call gave.
    make : callable, optional
        Makes the call, in place of `Lab.do`.
    sure : str, optional
        A question; the call is made at a second click then.
    """

    def __init__(
        self,
        lab: Lab,
        control: str,
        description: str,
        call: Callable[[], Call],
        *,
        then: Callable[[Any], str] | None = None,
        make: Callable[[Call], None] | None = None,
        sure: str = "",
        style: str = "",
    ) -> None:
        self.lab, self.control = lab, control
        self._call, self._sure = call, sure
        self._make = make or (lambda call: lab.do(control, call, then=then))
        self._asked = False
        self._description = description
        self.button = widgets.Button(
            description=description, tooltip=description, button_style=style
        )
        self.button.on_click(self._clicked)
        self._code, self._outcome = widgets.HTML(), widgets.HTML()
        super().__init__([widgets.HBox([self.button, self._code]), self._outcome])
        self.refresh()

    def refresh(self, *_: object) -> None:
        """Show the call as it would be made now."""
        try:
            show(self._code, code(self._call().code))
        except (ValueError, DaskEnvLabError) as error:
            show(self._code, text(error, "waits"))

    def heard(self, what: str) -> None:
        """Show what came of the call, where it was this control's."""
        said = self.lab.said.get(self.control)
        if what != self.control or said is None:
            return
        self.button.disabled = said.busy
        told = said.sentence or ("…" if said.busy else "")
        show(self._outcome, text(told, "failed" if said.failed else "waits") if told else "")

    def _clicked(self, _: object) -> None:
        if self._sure and not self._asked:
            self._asked = True
            self.button.description = self._sure
            return
        self._forget_question()
        try:
            call = self._call()
        except (ValueError, DaskEnvLabError) as error:
            self.lab.say(self.control, str(error), failed=True)
            return
        self._make(call)

    def _forget_question(self) -> None:
        self._asked = False
        self.button.description = self._description
