"""A browser without a window: follows links and redirects, keeps cookies, fills in and sends the forms of a page."""

import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from email.message import Message
from html.parser import HTMLParser
from http.cookiejar import CookieJar

from slowness import SLOWNESS

File = tuple[str, bytes]


@dataclass
class Form:
    """``fields``: what a browser sends of a form as it came. ``files``: the names of its inputs for files."""

    method: str
    action: str
    fields: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)


class _Elements(HTMLParser):
    """The forms, links and style sheets of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: dict[str, str] = {}
        self.styles: list[str] = []
        self._inside = False
        self._link: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, found: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in found}
        if tag == "form":
            self.forms.append(Form(attributes.get("method", "get"), attributes.get("action", "")))
            self._inside = True
        elif tag in ("input", "textarea", "select", "button") and self._inside and (name := attributes.get("name")):
            if attributes.get("type") == "file":
                self.forms[-1].files.append(name)
            elif tag != "button" and attributes.get("type") not in ("submit", "checkbox"):
                self.forms[-1].fields[name] = attributes.get("value", "")
        elif tag == "a" and "href" in attributes:
            self._link = attributes["href"]
        elif tag == "link" and attributes.get("rel") == "stylesheet":
            self.styles.append(attributes["href"])

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False
        elif tag == "a":
            self._link = None

    def handle_data(self, data: str) -> None:
        if self._link is not None and data.strip():
            self.links[data.strip()] = self._link


@dataclass
class Page:
    status: int
    url: str
    body: bytes
    headers: Message

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def path(self) -> str:
        return urllib.parse.urlsplit(self.url).path

    def form(self, input_name: str) -> Form:
        """Return the form with this input."""
        found = [one for one in self.elements.forms if input_name in (*one.fields, *one.files)]
        assert found, f"{self.url} ({self.status}) has no form with {input_name}:\n{self.text}"
        return found[0]

    @property
    def elements(self) -> _Elements:
        return _Elements(self.text)


class Browser:
    def __init__(self, origin: str) -> None:
        self.jar = CookieJar()
        self.origin = origin
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))

    def get(self, url: str) -> Page:
        return self._open(urllib.request.Request(urllib.parse.urljoin(self.origin, url)))

    def follow(self, page: Page, link: str) -> Page:
        """Follow the link with this text, or this address relative to the page."""
        return self.get(urllib.parse.urljoin(page.url, page.elements.links.get(link, link)))

    def submit(self, page: Page, form: Form, values: dict[str, str], files: dict[str, File] | None = None) -> Page:
        """Fill in a form of the page, send it, and return the page to which that leads."""
        url = urllib.parse.urljoin(page.url, form.action)
        fields = form.fields | values
        if form.files:
            body, kind = multipart(fields, {name: (files or {}).get(name, ("", b"")) for name in form.files})
        else:
            body, kind = urllib.parse.urlencode(fields).encode(), "application/x-www-form-urlencoded"
        headers = {"Content-Type": kind, "Origin": self.origin, "Referer": page.url}
        return self._open(urllib.request.Request(url, body, headers, method=form.method.upper()))

    def styles(self, page: Page) -> list[Page]:
        """Return the style sheets of a page, and what they import or show: ``url(…)``."""
        found = [self.follow(page, style) for style in page.elements.styles]
        for sheet in list(found):
            found += [self.follow(sheet, url) for url in re.findall(r"""url\(["']?(?!data:)([^"')]+)""", sheet.text)]
        return found

    def _open(self, request: urllib.request.Request) -> Page:
        try:
            with self._opener.open(request, timeout=60 * SLOWNESS) as reply:
                return Page(reply.status, reply.url, reply.read(), reply.headers)
        except urllib.error.HTTPError as error:
            with error:
                return Page(error.code, error.url or request.full_url, error.read(), error.headers)


def multipart(fields: dict[str, str], files: dict[str, File]) -> tuple[bytes, str]:
    """Return a body of multipart/form-data (RFC 7578), and its Content-Type."""
    boundary = "----------------------------flyatc"
    parts = [f'name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    parts += [
        f'name="{name}"; filename="{title}"\r\nContent-Type: application/octet-stream\r\n\r\n'.encode() + content
        for name, (title, content) in files.items()
    ]
    head = f"--{boundary}\r\nContent-Disposition: form-data; ".encode()
    body = b"".join(head + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"
