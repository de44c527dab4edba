"""Formulas in LaTeX as MathML, which browsers show without a script.

`latex2mathml` converts. What it lacks, or writes in a way that MathML Core (the part
that all browsers share) does not have, is mended here. What neither of them knows is
refused, instead of shown as it stands.
"""

import re
from xml.etree import ElementTree as ET

from latex2mathml.converter import convert

# What latex2mathml lacks, or gets wrong, in words that it knows.
SAME = {
    r"\\(mathcal|mathbb|mathbf|mathrm) ([A-Za-z])": r"\\\1{\2}",  # \mathcal N
    r"\\mathrm\{([A-Za-z]+)\}": r"{\\text{\1}}",
    r"\\\|": "‖",
    r"\{aligned\}": "{split}",
}
ACCENTS = {"¯": "‾", "^": "ˆ", "~": "˜"}
CLOSING = set(")]}‖|")
UPRIGHT = set("ΓΔΘΛΞΠΣΥΦΨΩ")
NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"
ET.register_namespace("", NAMESPACE[1:-1])


def mathml(latex: str, display: bool = False) -> str:
    r"""A formula without its dollars -> one <math> element; display: on its own line.

    Raises ValueError if a command in it has no conversion or its braces do not match.
    """
    words = latex.strip()
    for given, known in SAME.items():
        words = re.sub(given, known, words)
    try:
        braces = re.sub(r"\\[{}]", "", latex)
        if braces.count("{") != braces.count("}"):
            raise ValueError("its braces do not match")
        root = ET.fromstring(convert(words, display="block" if display else "inline"))
        for element in [*root.iter()]:
            mend(element)
        if left := re.findall(r"\\\w*|[&$]", "".join(root.itertext())):
            raise ValueError(f"{left[0]} has no conversion")
        variants = {element.get("mathvariant", "normal") for element in root.iter()}
        if odd := variants - {"normal"}:
            raise ValueError(f"MathML Core has no letters that are {', '.join(odd)}")
    except Exception as error:  # latex2mathml's and the XML parser's own kinds too
        raise ValueError(f"the formula ${latex}$ has no MathML: {error}") from error
    return ET.tostring(root, encoding="unicode")


def mend(row: ET.Element) -> None:
    """Set the children of one element, in place, as TeX would."""
    name = row.tag.removeprefix(NAMESPACE)
    children = [*row]
    for i, child in enumerate(children):
        text = child.text or ""
        first = i == 0 or is_operator(children[i - 1])
        last = i + 1 == len(children) or is_operator(children[i + 1])
        if "minsize" in child.attrib:  # \big(
            form = "postfix" if text in ")]}" else "prefix"
            child.attrib.update(stretchy="true", form=form)
            if name in ("msub", "msup", "msubsup"):  # or Chromium shrinks it
                row[0] = ET.Element(f"{NAMESPACE}mrow")
                row[0].append(child)
        elif text == "‖":
            become(child, "mo", stretchy="false")
        elif name == "mover" and text in ACCENTS:
            child.text = ACCENTS[text]
            become(child, "mo", stretchy="false")
            row.attrib.pop("accent", None)  # whose bars and hats are larger and lower
        elif text == "~":
            child.text = "∼"
            become(child, "mo")
        elif text in ("×", "·"):  # of latex2mathml before 3.78
            become(child, "mo")
        elif text == "/":
            become(child, "mo", lspace="0", rspace="0")
        elif text == "∅":
            become(child, "mi")
        elif text == "−" and first:
            become(child, "mo", form="prefix")
        elif text in UPRIGHT:
            become(child, "mi", mathvariant="normal")
        elif len(text) > 1 and child.tag in (f"{NAMESPACE}mi", f"{NAMESPACE}mo"):
            before, after = ("0" if bare else "0.167em" for bare in (first, last))
            become(child, "mo", lspace=before, rspace=after)


def become(element: ET.Element, name: str, **attributes: str) -> None:
    """Make an element another one: mi (a letter, a name), mo (an operator)."""
    element.tag = NAMESPACE + name
    element.attrib.update(attributes)


def is_operator(element: ET.Element) -> bool:
    """Whether a minus next to it is a sign, and not a difference."""
    return element.tag == f"{NAMESPACE}mo" and element.text not in CLOSING
