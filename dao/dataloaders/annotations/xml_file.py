"""XML files that others wrote, in the encoding that they declare; entities of their own are refused."""

from __future__ import annotations

import codecs
import re
import xml.etree.ElementTree as ET
from pathlib import Path

from dao.errors import DataError
from dao.images.files import read_file

DECLARATION = re.compile(rb"<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
WIDER = {"gb2312": "gb18030", "gbk": "gb18030"}  # what tools declare as these holds characters of the larger one


def parse_xml(path: Path, what: str) -> ET.Element:
    """The root of an XML file. Raises DataError where it is missing, no XML, or defines entities: these can make
    gigabytes of a few lines, and no label file needs them."""
    text = decoded(read_file(path))
    if "<!ENTITY" in text:
        raise DataError(f"{path}: the {what} defines entities, which are not read")
    return ET.fromstring(re.sub(r"^\s*<\?xml.*?\?>", "", text, count=1, flags=re.DOTALL))


def decoded(data: bytes) -> str:
    """A file's text by its mark or its declaration, else as UTF-8. Raises ValueError where it is not of that encoding."""
    for mark, encoding in MARKS:
        if data.startswith(mark):
            return data.decode(encoding)
    if data[:4] in (b"<\0?\0", b"\0<\0?"):
        return data.decode("utf-16-le" if data[:1] == b"<" else "utf-16-be")
    declared = DECLARATION.match(data.lstrip()[:200])
    name = declared.group(1).decode("ascii").lower() if declared else "utf-8"
    if name.startswith(("utf-16", "utf16", "ucs-2", "unicode")):
        name = "utf-8"  # declared by tools that write one byte a character all the same
    try:
        return data.decode(WIDER.get(name, name))
    except LookupError:
        raise ValueError(f"its encoding '{name}' is not known") from None
