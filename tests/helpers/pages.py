"""Pages of the reports, parsed: what they load, their elements, and whether their tags close."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = {'meta', 'link', 'img', 'input', 'br', 'hr'}


@dataclass
class Element:
    """An element with its attributes and the text of everything inside."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    raw: str = ''

    @property
    def text(self) -> str:
        """Text with single spaces."""
        return ' '.join(self.raw.split())


class Page(HTMLParser):
    """A page of HTML.

    Parameters
    ----------
    path : pathlib.Path
        File to read.

    Attributes
    ----------
    loaded, anchors : list of str
        Addresses of what a browser would load, and those of links.
    elements : list of Element
        In the order of their beginnings.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.anchors: list[str] = []
        self.elements: list[Element] = []
        self.open: list[Element] = []
        self.whole = Element('')
        self.feed(path.read_text(encoding='utf-8'))
        assert not self.open, f'{path}: {self.open[-1].tag} is never closed'

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or '' for name, value in attrs})
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)
        for name, value in element.attributes.items():
            if name in ('src', 'data', 'srcset', 'poster') or (tag == 'link' and name == 'href'):
                self.loaded.append(value)
            if tag == 'a' and name == 'href':
                self.anchors.append(value)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1].tag in ('style', 'script'):
            return
        for element in (self.whole, *self.open):
            element.raw += data + ' '

    @property
    def text(self) -> str:
        """Text of the page with single spaces."""
        return self.whole.text

    @property
    def ids(self) -> list[str]:
        """Identifiers in the order of their elements."""
        return [element.attributes['id'] for element in self.having('id')]

    def find(self, identifier: str) -> Element:
        """Return the element with an identifier; KeyError where there is none."""
        return {element.attributes['id']: element for element in self.having('id')}[identifier]

    def having(self, attribute: str) -> list[Element]:
        """Elements with an attribute."""
        return [element for element in self.elements if attribute in element.attributes]

    def values(self, attribute: str) -> list[str]:
        """Values of an attribute in the order of its elements."""
        return [element.attributes[attribute] for element in self.having(attribute)]

    def of_class(self, name: str) -> list[Element]:
        """Elements of a class."""
        return [e for e in self.elements if name in e.attributes.get('class', '').split()]
