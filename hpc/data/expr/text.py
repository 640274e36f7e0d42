"""Functions of texts: `col("name").str`."""

from __future__ import annotations

from typing import Any, Literal

from hpc.data.datatype import DataType
from hpc.data.expr.nodes import BOOL, UNKNOWN, Expr, compute

STRING = DataType.string()
NUMBER = DataType.int32()


class StringNamespace:
    """Functions of texts. Further arguments go to the function of Arrow."""

    def __init__(self, expr: Expr) -> None:
        self._expr = expr

    def _text(self, function: str, *args: Any, **options: Any) -> Expr:
        return compute(function, self._expr, *args, kind=STRING, **options)

    def _bool(self, function: str, *args: Any, **options: Any) -> Expr:
        return compute(function, self._expr, *args, kind=BOOL, **options)

    def _number(self, function: str, *args: Any, **options: Any) -> Expr:
        return compute(function, self._expr, *args, kind=NUMBER, **options)

    def _other(self, function: str, *args: Any, **options: Any) -> Expr:
        return compute(function, self._expr, *args, kind=UNKNOWN, **options)

    def len(self) -> Expr:
        """The number of characters."""
        return self._number("utf8_length")

    def byte_len(self) -> Expr:
        """The number of bytes."""
        return self._number("binary_length")

    def upper(self) -> Expr:
        """In capital letters."""
        return self._text("utf8_upper")

    def lower(self) -> Expr:
        """In small letters."""
        return self._text("utf8_lower")

    def capitalize(self) -> Expr:
        """The first letter capital, the others small."""
        return self._text("utf8_capitalize")

    def title(self) -> Expr:
        """The first letter of each word capital."""
        return self._text("utf8_title")

    def swapcase(self) -> Expr:
        """Capital letters small, and small ones capital."""
        return self._text("utf8_swapcase")

    def is_alpha(self) -> Expr:
        """Whether there are letters only."""
        return self._bool("utf8_is_alpha")

    def is_alnum(self) -> Expr:
        """Whether there are letters and digits only."""
        return self._bool("utf8_is_alnum")

    def is_digit(self) -> Expr:
        """Whether there are digits only."""
        return self._bool("utf8_is_digit")

    def is_decimal(self) -> Expr:
        """Whether there are decimal digits only."""
        return self._bool("utf8_is_decimal")

    def is_numeric(self) -> Expr:
        """Whether there are characters of numbers only."""
        return self._bool("utf8_is_numeric")

    def is_space(self) -> Expr:
        """Whether there is white space only."""
        return self._bool("utf8_is_space")

    def is_lower(self) -> Expr:
        """Whether all letters are small."""
        return self._bool("utf8_is_lower")

    def is_upper(self) -> Expr:
        """Whether all letters are capital."""
        return self._bool("utf8_is_upper")

    def is_title(self) -> Expr:
        """Whether each word begins with a capital letter."""
        return self._bool("utf8_is_title")

    def is_printable(self) -> Expr:
        """Whether all characters can be printed."""
        return self._bool("utf8_is_printable")

    def is_ascii(self) -> Expr:
        """Whether all characters are ASCII."""
        return self._bool("string_is_ascii")

    def starts_with(self, pattern: str, *args: Any, **kwargs: Any) -> Expr:
        """Whether it begins with this."""
        return self._bool("starts_with", pattern, *args, **kwargs)

    def ends_with(self, pattern: str, *args: Any, **kwargs: Any) -> Expr:
        """Whether it ends with this."""
        return self._bool("ends_with", pattern, *args, **kwargs)

    def contains(self, pattern: str, *args: Any, **kwargs: Any) -> Expr:
        """Whether this is in it."""
        return self._bool("match_substring", pattern, *args, **kwargs)

    def match(self, pattern: str, *args: Any, **kwargs: Any) -> Expr:
        """Whether it is like this pattern of SQL: % stands for any text, _ for a character."""
        return self._bool("match_like", pattern, *args, **kwargs)

    def find(self, pattern: str, *args: Any, **kwargs: Any) -> Expr:
        """Where this begins, in bytes; -1 if it is not there."""
        return self._number("find_substring", pattern, *args, **kwargs)

    def count(self, pattern: str, *args: Any, **kwargs: Any) -> Expr:
        """How often this is in it."""
        return self._number("count_substring", pattern, *args, **kwargs)

    def find_regex(self, pattern: str, *args: Any, **kwargs: Any) -> Expr:
        """Where the regular expression matches first, in bytes; -1 if nowhere."""
        return self._number("find_substring_regex", pattern, *args, **kwargs)

    def count_regex(self, pattern: str, *args: Any, **kwargs: Any) -> Expr:
        """How often the regular expression matches."""
        return self._number("count_substring_regex", pattern, *args, **kwargs)

    def match_regex(self, pattern: str, *args: Any, **kwargs: Any) -> Expr:
        """Whether the regular expression matches somewhere."""
        return self._bool("match_substring_regex", pattern, *args, **kwargs)

    def reverse(self) -> Expr:
        """From the end to the beginning."""
        return self._text("utf8_reverse")

    def slice(self, *args: Any, **kwargs: Any) -> Expr:
        """The characters from start to stop."""
        return self._text("utf8_slice_codeunits", *args, **kwargs)

    def replace(self, pattern: str, replacement: str, *args: Any, **kwargs: Any) -> Expr:
        """With one text in place of another."""
        return self._text("replace_substring", pattern, replacement, *args, **kwargs)

    def replace_regex(self, pattern: str, replacement: str, *args: Any, **kwargs: Any) -> Expr:
        """With a text in place of what the regular expression matches."""
        return self._text("replace_substring_regex", pattern, replacement, *args, **kwargs)

    def replace_slice(self, start: int, stop: int, replacement: str, *args: Any, **kwargs: Any) -> Expr:
        """With a text in place of the bytes from start to stop."""
        return self._text("binary_replace_slice", start, stop, replacement, *args, **kwargs)

    def split(self, pattern: str, *args: Any, **kwargs: Any) -> Expr:
        """The parts between these."""
        return self._other("split_pattern", pattern, *args, **kwargs)

    def split_regex(self, pattern: str, *args: Any, **kwargs: Any) -> Expr:
        """The parts between matches of the regular expression."""
        return self._other("split_pattern_regex", pattern, *args, **kwargs)

    def split_whitespace(self, *args: Any, **kwargs: Any) -> Expr:
        """The parts between white space."""
        return self._other("utf8_split_whitespace", *args, **kwargs)

    def extract(self, pattern: str, *args: Any, **kwargs: Any) -> Expr:
        """A struct of the named groups of the regular expression."""
        return self._other("extract_regex", pattern, *args, **kwargs)

    def repeat(self, n: int, *args: Any, **kwargs: Any) -> Expr:
        """The text again and again, n times."""
        return self._text("binary_repeat", n, *args, **kwargs)

    def center(self, width: int, padding: str = " ", *args: Any, **kwargs: Any) -> Expr:
        """With padding on both sides."""
        return self._text("utf8_center", width, padding, *args, **kwargs)

    def lpad(self, width: int, padding: str = " ", *args: Any, **kwargs: Any) -> Expr:
        """With padding on the left."""
        return self._text("utf8_lpad", width, padding, *args, **kwargs)

    def rpad(self, width: int, padding: str = " ", *args: Any, **kwargs: Any) -> Expr:
        """With padding on the right."""
        return self._text("utf8_rpad", width, padding, *args, **kwargs)

    def strip(self, characters: str | None = None) -> Expr:
        """Without these characters, or white space, at both ends."""
        if characters is None:
            return self._text("utf8_trim_whitespace")
        return self._text("utf8_trim", characters=characters)

    def lstrip(self, characters: str | None = None) -> Expr:
        """Without these characters, or white space, at the left."""
        if characters is None:
            return self._text("utf8_ltrim_whitespace")
        return self._text("utf8_ltrim", characters=characters)

    def rstrip(self, characters: str | None = None) -> Expr:
        """Without these characters, or white space, at the right."""
        if characters is None:
            return self._text("utf8_rtrim_whitespace")
        return self._text("utf8_rtrim", characters=characters)

    def pad(self, width: int, fillchar: str = " ", side: Literal["left", "right", "both"] = "right") -> Expr:
        """With padding on a side. Raises ValueError for another side."""
        functions = {"right": "utf8_rpad", "left": "utf8_lpad", "both": "utf8_center"}
        if side not in functions:
            raise ValueError(f"side must be 'left', 'right' or 'both', not {side!r}")
        return self._text(functions[side], width=width, padding=fillchar)
