"""A page with a picture, maps over it, and what they say: one file that asks nobody for anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .. import pages
from ..errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

OPACITY = 0.75
LONGEST = 640
"""Pixels of a page's picture, along the longer side."""
STYLE = """\
.see{display:grid;grid-template-columns:minmax(0,40rem) minmax(16rem,1fr);gap:1.5rem}
@media(max-width:50rem){.see{grid-template-columns:1fr}}
.stack{position:relative;line-height:0}.stack img{width:100%;display:block}
.stack img+img{position:absolute;inset:0;height:100%}
.one{display:flex;gap:.6rem;align-items:center;width:100%;font:inherit;color:inherit;text-align:left;background:none;
border:1px solid var(--line);border-radius:.4rem;padding:.3rem;margin-bottom:.4rem;cursor:pointer}
.one[aria-pressed=true]{outline:3px solid #e05a00}.one img{width:4.5rem}
.one b,.one small{display:block;overflow-wrap:anywhere}
.said{display:none}.said.on{display:block}label{display:flex;gap:.6rem;align-items:center;margin:.6rem 0}
input{flex:1;accent-color:#e05a00}.key{height:.7rem;border:1px solid var(--line);
background:linear-gradient(90deg,#0068b2,transparent,#e05a00)}
.ends{display:flex;justify-content:space-between;font-size:.85rem;color:var(--dim)}
"""
SCRIPT = """\
const a=s=>[...document.querySelectorAll(s)],h=document.getElementById("heat"),o=document.getElementById("opacity");
function pick(i){a(".one").forEach((b,j)=>b.setAttribute("aria-pressed",i===j));
a(".said").forEach((d,j)=>d.classList.toggle("on",i===j));h.src=a(".cover")[i].src}
a(".one").forEach((b,i)=>b.addEventListener("click",()=>pick(i)));
const see=()=>{h.style.opacity=o.value/100};o.addEventListener("input",see);see();pick(0)
"""


class Shown(Protocol):
    """What a page needs of an `Explanation`."""

    @property
    def model(self) -> str: ...
    @property
    def input(self) -> str: ...
    @property
    def map(self) -> np.ndarray: ...
    @property
    def score(self) -> float: ...
    @property
    def picture(self) -> Image | None: ...
    @property
    def rows(self) -> list[tuple[str, str]]: ...
    def on_picture(self) -> np.ndarray: ...


def page(found: Sequence[Shown], title: str | None = None) -> str:
    """A page of explanations of one input.

    Parameters
    ----------
    found : sequence of Explanation
        The first is shown at first.
    title : str, optional

    Raises
    ------
    InputError
        The input is no picture, or Pillow is not installed.
    """
    first = found[0]
    picture = first.picture
    if picture is None:
        raise InputError("the input is no picture", tensor=first.input, expected="2 axes of places")
    base = _within(pages.faded(picture), LONGEST)
    kind = "JPEG" if base.width * base.height > 10000 else "PNG"
    buttons, said = [], []
    most = max(float(np.abs(one.map).max()) for one in found)
    for one in found:
        cover = _within(pages.image_of(pages.heat(one.on_picture())), LONGEST)
        name = pages.escape(one.rows[1][1])
        share = float(np.abs(one.map).max()) / most if most > 0 else 0.0
        buttons.append(
            f'<button class=one aria-pressed=false><img class=cover alt="" src="{pages.uri(cover)}"><span><b>{name}</b>'
            f"<small>{one.score:.6g}</small>"
            f"<small>strongest place: {share:.0%} of the strongest of all</small></span></button>"
        )
        said.append(f"<div class=said>{pages.facts(one.rows)}</div>")
    where = "orange speaks for it, blue against it; each map has the full colour where it is strongest"
    body = (
        f"<h1>{pages.escape(title or f'What {first.model} looks at')}</h1><div class=see><div><div class=stack>"
        f'<img alt="what was explained" src="{pages.uri(base, kind)}"><img id=heat alt="{where}"></div>'
        f"<label>map <input id=opacity type=range min=0 max=100 value={round(100 * OPACITY)} "
        f'aria-label="opacity of the map"></label>'
        f"<div class=key></div><div class=ends><span>speaks against it</span><span>speaks for it</span></div>"
        f"<p>Each map has the full colour where it is strongest.</p></div><div>{''.join(buttons)}</div></div>{''.join(said)}"
    )
    return pages.document(title or f"{first.model}: where it looks", body, STYLE, SCRIPT)


def _within(image: Image, longest: int) -> Image:
    """The picture, no larger than this; a small one in whole multiples of its pixels."""
    from PIL import Image as pillow

    share = longest / max(image.size)
    if share >= 2:
        return image.resize((image.width * int(share), image.height * int(share)), pillow.Resampling.NEAREST)
    if share >= 1:
        return image
    size = max(1, round(image.width * share)), max(1, round(image.height * share))
    return image.resize(size, pillow.Resampling.LANCZOS)
